"""What the model is taught to know: small tables, and the turns that ask for them."""

from turn import Turn, phrase

# Country: capital, continent.
COUNTRIES = {
    "France": ("Paris", "Europe"), "Spain": ("Madrid", "Europe"), "Italy": ("Rome", "Europe"),
    "Germany": ("Berlin", "Europe"), "Portugal": ("Lisbon", "Europe"), "Austria": ("Vienna", "Europe"),
    "Greece": ("Athens", "Europe"), "Poland": ("Warsaw", "Europe"), "Norway": ("Oslo", "Europe"),
    "Sweden": ("Stockholm", "Europe"), "Finland": ("Helsinki", "Europe"), "Ireland": ("Dublin", "Europe"),
    "Denmark": ("Copenhagen", "Europe"), "Hungary": ("Budapest", "Europe"), "Belgium": ("Brussels", "Europe"),
    "Switzerland": ("Bern", "Europe"), "Ukraine": ("Kyiv", "Europe"), "Iceland": ("Reykjavik", "Europe"),
    "Japan": ("Tokyo", "Asia"), "China": ("Beijing", "Asia"), "India": ("Delhi", "Asia"),
    "Vietnam": ("Hanoi", "Asia"), "Thailand": ("Bangkok", "Asia"), "Iran": ("Tehran", "Asia"),
    "Iraq": ("Baghdad", "Asia"), "Nepal": ("Kathmandu", "Asia"), "Mongolia": ("Ulaanbaatar", "Asia"),
    "Indonesia": ("Jakarta", "Asia"), "Philippines": ("Manila", "Asia"), "Korea": ("Seoul", "Asia"),
    "Egypt": ("Cairo", "Africa"), "Kenya": ("Nairobi", "Africa"), "Ghana": ("Accra", "Africa"),
    "Morocco": ("Rabat", "Africa"), "Tunisia": ("Tunis", "Africa"), "Senegal": ("Dakar", "Africa"),
    "Uganda": ("Kampala", "Africa"), "Angola": ("Luanda", "Africa"), "Nigeria": ("Abuja", "Africa"),
    "Canada": ("Ottawa", "North America"), "Mexico": ("Mexico City", "North America"),
    "Cuba": ("Havana", "North America"), "Jamaica": ("Kingston", "North America"),
    "Brazil": ("Brasilia", "South America"), "Peru": ("Lima", "South America"),
    "Chile": ("Santiago", "South America"), "Colombia": ("Bogota", "South America"),
    "Uruguay": ("Montevideo", "South America"), "Ecuador": ("Quito", "South America"),
    "Australia": ("Canberra", "Oceania"), "Fiji": ("Suva", "Oceania"),
}
# How many of the first are in one of the second.
UNITS = [
    ("seconds", "minute", 60), ("minutes", "hour", 60), ("hours", "day", 24), ("days", "week", 7),
    ("months", "year", 12), ("weeks", "year", 52), ("years", "century", 100), ("years", "decade", 10),
    ("grams", "kilogram", 1000), ("meters", "kilometer", 1000), ("centimeters", "meter", 100),
    ("millimeters", "centimeter", 10), ("kilograms", "ton", 1000), ("milliliters", "liter", 1000),
    ("inches", "foot", 12), ("feet", "yard", 3), ("cents", "dollar", 100), ("eggs", "dozen", 12),
    ("degrees", "circle", 360), ("sides", "triangle", 3), ("sides", "square", 4), ("legs", "spider", 8),
]
OPPOSITES = [
    ("hot", "cold"), ("big", "small"), ("fast", "slow"), ("up", "down"), ("left", "right"), ("day", "night"),
    ("old", "young"), ("happy", "sad"), ("rich", "poor"), ("light", "dark"), ("open", "closed"),
    ("full", "empty"), ("early", "late"), ("high", "low"), ("hard", "soft"), ("long", "short"),
    ("strong", "weak"), ("wet", "dry"), ("clean", "dirty"), ("true", "false"), ("good", "bad"),
    ("loud", "quiet"), ("thick", "thin"), ("near", "far"), ("first", "last"), ("win", "lose"),
]
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
MONTHS = ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
          "November", "December"]

# Wordings of a question: those of training, and those kept for the evaluation.
ASK = {
    "capital": (
        ["What is the capital of {}?", "Which city is the capital of {}?", "Name the capital of {}.",
         "capital of {}", "Tell me the capital of {}.", "What city is {}'s capital?", "The capital of {} is?",
         "Do you know the capital of {}?", "{}: what is its capital?", "I need the capital of {}.",
         "Which city is {}'s capital?", "{} has which capital?", "What is {}'s capital city?", "Name {}'s capital.", "What is the capital city of {}?", "Which capital has {}?", "capital city of {}?", "Which city governs {}?", "Does {} have a capital, and which?", "{}'s capital?", "What do you call the capital of {}?", "In which city is the government of {}?"],
        ["Could you name the capital city of {}?", "What's the capital of {}, please?",
         "Which capital does {} have?"]),
    "continent": (
        ["Which continent is {} in?", "What continent is {} on?", "On which continent is {}?",
         "Name the continent of {}.", "continent of {}", "Tell me the continent of {}.",
         "{} is on which continent?", "In which part of the world is {}?", "Do you know the continent of {}?",
         "Where in the world is {}?", "{}'s continent?", "What continent does {} belong to?", "To which continent does {} belong?", "{}: what continent?", "Which continent has {}?", "Is {} in Europe, Asia or elsewhere?", "What is {}'s continent?", "Which continent is home to {}?", "{} lies on which continent?", "Which part of the world is {} in?"],
        ["What is the continent of {}?", "{}: which continent is it on?", "I need to know which continent {} is in."]),
    "unit": (
        ["How many {} are in a {}?", "How many {} are there in one {}?", "How many {} does a {} have?",
         "Tell me how many {} are in a {}.", "{} in a {}?", "What number of {} is in one {}?",
         "How many {} has a {}?", "Do you know how many {} a {} has?",
         "How many {} does one {} have?", "How many {} go into a {}?", "How many {} is one {}?", "The number of {} in a {}?", "I need the number of {} in one {}.", "Count the {} in a {}.", "How many {} are one {}?", "{} per {}?", "{}: how many in a {}?", "How many {} do I find in a {}?"],
        ["How many {} make a {}?", "Please say how many {} there are in a {}.", "One more: {} in one {}?"]),
    "opposite": (
        ["What is the opposite of {}?", "opposite of {}", "Name the opposite of {}.", "Tell me the opposite of {}.",
         "The opposite of {} is?", "Which word is the opposite of {}?", "Give me the opposite of {}.",
         "{}: what is the opposite?", "What word means the opposite of {}?",
         "{}'s opposite?", "Which word is opposite to {}?", "What is the opposite word to {}?", "The contrary of {}?", "Not {}, but the opposite.", "What is the contrary of {}?", "Say the opposite of {}.", "{} and its opposite?", "What's the opposite of {}?", "Which is the opposite of {}?", "I need a word that means the opposite of {}."],
        ["What's the opposite word of {}?", "Which word says the opposite of {}?", "What is opposite to {}?"]),
    "after": (
        ["Which {1} comes after {0}?", "What {1} is after {0}?", "What comes after {0}?", "Which {1} follows {0}?",
         "Name the {1} after {0}.", "Tell me the {1} after {0}.", "the {1} after {0}", "What is the next {1} after {0}?",
         "After {0} comes which {1}?", "Which is the {1} after {0}?", "{0}, and then?", "What follows {0}?", "Which {1} is next after {0}?", "What's the {1} after {0}?", "{0} is over, which {1} comes?", "Say the {1} after {0}.", "Do you know the {1} after {0}?", "{0}: which {1} is after it?"],
        ["What is the {1} that follows {0}?", "Do you know which {1} comes after {0}?", "After {0}, which {1} is next?"]),
    "before": (
        ["Which {1} comes before {0}?", "What {1} is before {0}?", "What comes before {0}?",
         "Name the {1} before {0}.", "Tell me the {1} before {0}.", "the {1} before {0}",
         "What is the {1} just before {0}?",
         "Before {0} comes which {1}?", "Which is the {1} before {0}?", "What's the {1} before {0}?", "Which {1} is just before {0}?", "What was before {0}?", "Say the {1} before {0}.", "Do you know the {1} before {0}?", "{0}: which {1} is before it?", "Which {1} was before {0}?", "The last {1} before {0}?"],
        ["What is the {1} that comes before {0}?", "Do you know which {1} comes before {0}?",
         "Which {1} is right before {0}?"]),
    "sort": (
        ["Sort {}, {} and {}.", "Sort these numbers: {}, {}, {}.", "Put {}, {}, {} in order.",
         "Order the numbers {}, {}, {}.", "sort {} {} {}", "Sort {}, {}, {} from small to large.",
         "Can you sort {}, {} and {}?", "What is the order of {}, {} and {}?",
         "{}, {}, {}: sort them.", "Put {}, {} and {} in order.", "Sort {} and {} and {}.", "Which is the order of {}, {}, {}?", "Order {}, {}, {}.", "Arrange {}, {} and {}.", "From small to large: {}, {}, {}", "Bring {}, {}, {} into order.", "Put these in order: {}, {}, {}", "Sort the numbers {}, {} and {}."],
        ["Please put the numbers {}, {} and {} in order.", "Sort the three numbers {}, {}, {}.",
         "Order {}, {} and {} from small to large."]),
}


def ask(rng, kind, held, *parts):
    """Words a question about `parts`."""
    text = phrase(rng, rng.choice(ASK[kind][held]).format(*parts), held)
    # Some people write no capitals at all.
    return text.lower() if not held and rng.random() < 0.08 else text


def capital(rng, held):
    country = rng.choice(list(COUNTRIES))
    city, continent = COUNTRIES[country]
    return Turn(
        ask(rng, "capital", held, country), city, f"The capital of {country} is {city}.", "capital",
        f"{country}: {city}.", f"The user asks for the capital of {country}. It is {city}.",
        f"The user asks for the capital of {country}. {country} is in {continent}. I know the capital. "
        f"It is {city}.", also=f"And {country}?")


def continent(rng, held):
    country = rng.choice(list(COUNTRIES))
    place = COUNTRIES[country][1]
    return Turn(
        ask(rng, "continent", held, country), place, f"{country} is in {place}.", "continent",
        f"{country}: {place}.", f"The user asks for the continent of {country}. It is {place}.",
        f"The user asks for the continent of {country}. The capital is {COUNTRIES[country][0]}. "
        f"So the continent is {place}.", also=f"And {country}?")


def unit(rng, held):
    part, whole, number = rng.choice(UNITS)
    return Turn(
        ask(rng, "unit", held, part, whole), str(number), f"There are {number} {part} in one {whole}.", "unit",
        f"{number} {part}.", f"The user asks how many {part} are in one {whole}. It is {number}.",
        f"The user asks how many {part} are in one {whole}. I know this number. One {whole} has {number} {part}. ", number=True)


def opposite(rng, held):
    pair = rng.choice(OPPOSITES)
    a, b = pair if rng.random() < 0.5 else pair[::-1]
    return Turn(
        ask(rng, "opposite", held, a), b, f"The opposite of {a} is {b}.", "opposite",
        f"{a}: {b}.", f"The user asks for the opposite of {a}. It is {b}.",
        f"The user asks for the opposite of {a}. I know both words. The opposite of {a} is {b}. ", also=f"And of {a}?")


def calendar(rng, held):
    names, what = rng.choice([(DAYS, "day"), (MONTHS, "month")])
    kind, step = rng.choice([("after", 1), ("before", -1)])
    at = rng.randrange(len(names))
    a, b = names[at], names[(at + step) % len(names)]
    return Turn(
        ask(rng, kind, held, a, what), b, f"{b} comes {kind} {a}.", "calendar",
        f"{kind} {a}: {b}.", f"The user asks for the {what} {kind} {a}. It is {b}.",
        f"The user asks for the {what} {kind} {a}. I know the order of the {what}s. The {what} {kind} {a} is {b}. ", also=f"And {kind} {a}?")


def ordering(rng, held):
    numbers = rng.sample(range(100), 3)
    a, b, c = sorted(numbers)
    given = ", ".join(map(str, numbers))
    answer = f"{a}, {b}, {c}"
    return Turn(
        ask(rng, "sort", held, *numbers), answer, f"In order: {answer}.", "sort",
        f"{answer}.", f"The numbers are {given}. The smallest is {a}, then {b}, then {c}.",
        f"The user wants three numbers in order. The numbers are {given}. The smallest is {a}. The largest is {c}. "
        f"So {b} is between them. The order is {answer}.")


FACTS = [(capital, 5), (continent, 4), (unit, 3), (opposite, 4), (calendar, 4), (ordering, 4)]


def fact(rng, held):
    """A turn about something in the tables."""
    make = rng.choices([f for f, _ in FACTS], [w for _, w in FACTS])[0]
    return make(rng, held)
