"""What the model is taught to know: small tables, and the turns that ask for them."""

from turn import Turn
from wordings import Wordings

# Country: capital, continent.
COUNTRIES = {
    "France": ("Paris", "Europe"), "Spain": ("Madrid", "Europe"), "Italy": ("Rome", "Europe"),
    "Germany": ("Berlin", "Europe"), "Portugal": ("Lisbon", "Europe"), "Austria": ("Vienna", "Europe"),
    "Greece": ("Athens", "Europe"), "Poland": ("Warsaw", "Europe"), "Norway": ("Oslo", "Europe"),
    "Sweden": ("Stockholm", "Europe"), "Finland": ("Helsinki", "Europe"), "Ireland": ("Dublin", "Europe"),
    "Denmark": ("Copenhagen", "Europe"), "Hungary": ("Budapest", "Europe"), "Belgium": ("Brussels", "Europe"),
    "Switzerland": ("Bern", "Europe"), "Ukraine": ("Kyiv", "Europe"), "Iceland": ("Reykjavik", "Europe"),
    "Japan": ("Tokyo", "Asia"), "China": ("Beijing", "Asia"), "India": ("New Delhi", "Asia"),
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

# Forms of questions for training, and wordings that only the evaluation uses.
ASK = {
    "capital": Wordings(
        ["[What|Which city|What city] is the [capital|capital city] of {0}?", "[What|Which city|What city] is {0}'s [capital|capital city]?",
         "[Name|Tell me|Give me|Say|I need|Find|Show me|Write] the [capital|capital city] of {0}.", "[Name|Tell me|Give me|Say|I need] {0}'s [capital|capital city].",
         "[|the ][capital|capital city] of {0}", "The capital of {0} is[|?|...| what?| which city?| called what?]", "{0}'s capital[?| is?| is what?]",
         "[Do you know|Can you tell me|Can you name|Can you say] [the capital of {0}|{0}'s capital|the capital city of {0}]?",
         "{0}: [what is its capital|which city is its capital|its capital|capital]?", "{0} has [which|what] capital[| city]?", "{0}, [which|what] capital?",
         "Which capital [belongs to|is that of|goes with] {0}?", "[Which city governs|From which city do they govern|Which city is the seat of] {0}?",
         "In which city is the government of {0}?", "Where [is|sits] the government of {0}?", "What do [you|people] call the capital of {0}?",
         "[How is|What is] the capital of {0} called?", "What is the name of [{0}'s capital|the capital of {0}|the capital city of {0}]?",
         "Does {0} have a capital, and which?", "I forgot [the capital of {0}|{0}'s capital].", "[I want|I would like] the capital of {0}.",
         "[Which|What] is the [main|capital] city of {0}?", "What city serves as the capital of {0}?", "I am in {0}. What is the capital?",
         "I go to {0}. Which city is the capital[| there]?", "What capital does {0} have?", "Country: {0}. Capital?"],
        ["Could you name the capital city of {0}?", "What's the capital of {0}, please?", "Which capital does {0} have?",
         "{0}: which city is the capital there?"]),
    "continent": Wordings(
        ["[Which|What] continent is {0} [in|on|part of|located in]?", "[On|In] which continent [is|lies] {0}?", "[What is|Name|Tell me|Say|Give me|I need] {0}'s continent[.|?]",
         "[Name|Tell me|Say|Give me|I need|Find] the continent of {0}.", "[|the ]continent of {0}", "{0} [is|lies] [on|in] [which|what] continent?",
         "[In which|Which|To which] part of the world [is {0} in|does {0} belong to|is {0}]?", "[Do you know|Can you say|Can you tell me] [the continent of {0}|on which continent {0} is|which continent {0} is on]?",
         "Where in the world is {0}?", "Where [is|lies] {0}?", "{0}'s continent?", "[What|Which] continent does {0} belong to?", "To [which|what] continent does {0} belong?",
         "{0}: [what|which] continent?", "{0}: continent?", "Which continent has {0}?", "Is {0} in [Europe, Asia or elsewhere|Africa, Asia or elsewhere|Europe or elsewhere]?",
         "Which continent is home to {0}?", "{0}, [which|what] continent?", "[I forgot|I want to know] [the continent of {0}|on which continent {0} is].",
         "[I want|I would like] the continent of {0}.", "Country: {0}. Continent?", "The continent of {0} is[|?| what?| which?]", "I go to {0}. Which continent is that?"],
        ["What continent is the country {0} on?", "{0}: which continent is it on?", "I need to know which continent {0} is in.",
         "On what continent would I find {0}?"]),
    "unit": Wordings(
        ["How many {0} are [there|] in [a|one] {1}?", "How many {0} [does a {1} have|has a {1}|does one {1} have|has one {1}]?", "[Tell me|Say|I want to know|I need to know] how many {0} are in [a|one] {1}.",
         "{0} in [a|one] {1}[|?]", "{0} per {1}[|?]", "[What|Which] number of {0} [is|are] in [a|one] {1}?", "[Do you know|Can you say|Can you tell me] how many {0} [a|one] {1} has?",
         "How many {0} [go into|fit in|fit into|are|is|equal] [a|one] {1}?", "[The|Tell me the|I need the|Give me the|Say the] number of {0} in [a|one] {1}[.|?]",
         "Count the {0} [in|of] [a|one] {1}.", "{0}: how many [in|are in] [a|one] {1}?", "How many {0} do I [find|have|get] in [a|one] {1}?",
         "[A|One] {1} has how many {0}?", "[A|One] {1} is how many {0}?", "[A|One] {1} in {0}[|?]", "[I forgot|I want to know] how many {0} [a|one] {1} has.",
         "{1} to {0}[|?]", "1 {1} = [?|how many] {0}"],
        ["How many {0} make a {1}?", "Please say how many {0} there are in a {1}.", "One more: {0} in one {1}?", "What is the count of {0} in one {1}?"]),
    "opposite": Wordings(
        ["[What|Which] is the opposite of {0}?", "[|the ]opposite of {0}", "[Name|Tell me|Give me|Say|Find|I need|Write] the [opposite|contrary] of {0}.", "The [opposite|contrary] of {0} is[|?| what?]",
         "[Which|What] word is [the opposite of|opposite to|the contrary of] {0}?", "{0}: [what is the opposite|opposite|its opposite|the opposite]?", "[What|Which] word means the [opposite|contrary] of {0}?",
         "{0}'s opposite[?| is?]", "What is the opposite word to {0}?", "The contrary of {0}?", "Not {0}, but [the opposite|what]?", "What is the [contrary|reverse] of {0}?",
         "{0} and its opposite?", "[I need|Give me|Find|Tell me] a word that means the opposite of {0}.", "[Do you know|Can you say|Can you tell me] the opposite of {0}?",
         "[I forgot|I want] the opposite of {0}.", "What do I say for the opposite of {0}?", "If it is not {0}, what is it?", "If something is not {0}, it is[| what]?", "The other way round: {0}?", "{0} or [what]?"],
        ["What's the opposite word of {0}?", "Which word says the opposite of {0}?", "What is opposite to {0}?", "{0}: which word is the opposite?"]),
    "after": Wordings(
        ["[Which|What] {1} [comes|is|is next|comes next] after {0}?", "What [comes|is|follows] after {0}?", "[Which|What] {1} follows [|on ]{0}?", "[Name|Tell me|Say|Give me|I need] the {1} after {0}.",
         "[|the ]{1} after {0}", "What is the next {1} after {0}?", "After {0} comes [which|what] {1}?", "Which is the {1} after {0}?", "{0}, and [then|next]?", "What follows {0}?",
         "{0} [is over|ends|is gone], [which|what] {1} [comes|is next|follows]?", "When {0} [ends|is over], [which|what] {1} [comes|begins|is it]?", "[Do you know|Can you say] the {1} after {0}?",
         "{0}: [which|what] {1} [is|comes] [after it|next]?", "Today is {0}. [Which|What] {1} is next?", "It is {0}. What comes next?", "The {1} [that comes|] after {0} is[|?| what?]",
         "[Which|What] {1} is right after {0}?", "What is after {0}?", "Next after {0}?"],
        ["What is the {1} that follows {0}?", "Do you know which {1} comes after {0}?", "After {0}, which {1} is next?", "When {0} is past, what {1} comes?"]),
    "before": Wordings(
        ["[Which|What] {1} [comes|is|was] before {0}?", "What [comes|is|was] before {0}?", "[Name|Tell me|Say|Give me|I need] the {1} before {0}.", "[|the ]{1} before {0}",
         "What is the {1} just before {0}?", "Before {0} [comes|is|was] [which|what] {1}?", "Which is the {1} before {0}?", "[Which|What] {1} is just before {0}?", "[Do you know|Can you say] the {1} before {0}?",
         "{0}: [which|what] {1} [is|comes|was] before [it|that]?", "The last {1} before {0}?", "[Which|What] {1} [comes|was] [just|shortly] before {0}?", "Today is {0}. [Which|What] {1} was before?", "It is {0}. What came before?",
         "The {1} [that comes|] before {0} is[|?| what?]", "{0} [begins|comes], [which|what] {1} was before?", "What {1} ends when {0} begins?"],
        ["What is the {1} that comes before {0}?", "Do you know which {1} comes before {0}?", "Which {1} is right before {0}?", "Before {0}, which {1} was it?"]),
    "sort": Wordings(
        ["[Sort|Order|Arrange] {0}, {1} and {2}.", "[Sort|Order|Arrange] [these|the|these three] numbers[:|] {0}, {1}, {2}.", "Put {0}, {1}[,| and] {2} in order.", "[sort|order] {0} {1} {2}",
         "[Sort|Order|Arrange] {0}, {1}, {2} [from small to large|by size|up].", "[Can you|Please|Will you] sort {0}, {1} and {2}[?|.]", "What is the [right|] order of {0}, {1} and {2}?", "{0}, {1}, {2}: [sort them|in order|sort|sorted|order them]",
         "Which is the order of {0}, {1}, {2}?", "From small to large: {0}, {1}, {2}", "[From the smallest|Smallest first]: {0}, {1}, {2}", "[Bring|Put] {0}, {1}, {2} into order.", "Put these in order: {0}, {1}, {2}",
         "[Sort|Order]: {0}, {1}, {2}", "[Write|Give me|Tell me|List] {0}, {1} and {2} in order.", "[Which|What] is the smallest of {0}, {1}, {2}, and then?", "I need {0}, {1}, {2} [sorted|in order].", "Numbers {0}, {1}, {2}, sorted?"],
        ["Please put the numbers {0}, {1} and {2} in order.", "Sort the three numbers {0}, {1}, {2}.", "Order {0}, {1} and {2} from small to large.", "Bring these numbers into order: {0}, {1}, {2}."]),
}


def ask(rng, kind, held, *parts):
    """Words a question about `parts`."""
    text = ASK[kind].say(rng, held, *parts)
    # Some people write no capitals at all.
    return text.lower() if not held and rng.random() < 0.08 else text


# How a question of the same kind goes on.
GOES_ON = Wordings(["[And|What about|How about|And for|Now|Then|Next|Or|Also] {0}?", "And [what about|how about|now|then] {0}?", "[The same for|Now the same for|And the same of] {0}.", "{0}?", "And [of|with|in case of] {0}?"],
                   ["And what is it for {0}?", "Okay, and {0}?", "What of {0}?"])


def further(rng, held, what):
    return GOES_ON.draw(rng, held).format(what)


def capital(rng, held):
    country = rng.choice(list(COUNTRIES))
    city, continent = COUNTRIES[country]
    return Turn(
        ask(rng, "capital", held, country), city, f"The capital of {country} is {city}.", "capital",
        f"{country}: {city}.", f"The user asks for the capital of {country}. It is {city}.",
        f"The user asks for the capital of {country}. {country} is in {continent}. I know the capital. "
        f"It is {city}.", also=further(rng, held, country))


def continent(rng, held):
    country = rng.choice(list(COUNTRIES))
    place = COUNTRIES[country][1]
    return Turn(
        ask(rng, "continent", held, country), place, f"{country} is in {place}.", "continent",
        f"{country}: {place}.", f"The user asks for the continent of {country}. It is {place}.",
        f"The user asks for the continent of {country}. The capital is {COUNTRIES[country][0]}. "
        f"So the continent is {place}.", also=further(rng, held, country))


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
        f"The user asks for the opposite of {a}. I know both words. The opposite of {a} is {b}. ", also=further(rng, held, a))


def calendar(rng, held):
    names, what = rng.choice([(DAYS, "day"), (MONTHS, "month")])
    kind, step = rng.choice([("after", 1), ("before", -1)])
    at = rng.randrange(len(names))
    a, b = names[at], names[(at + step) % len(names)]
    return Turn(
        ask(rng, kind, held, a, what), b, f"{b} comes {kind} {a}.", f"{what}s",
        f"{kind} {a}: {b}.", f"The user asks for the {what} {kind} {a}. It is {b}.",
        f"The user asks for the {what} {kind} {a}. I know the order of the {what}s. The {what} {kind} {a} is {b}. ", also=further(rng, held, f"{kind} {a}"))


def ordering(rng, held):
    # Small and close ones are what is hard.
    start, size = rng.choice([(0, 100), (0, 100), (0, 12), (rng.randrange(80), 20)])
    numbers = rng.sample(range(start, start + size), 3)
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
    turn = make(rng, held)
    turn.asked = turn.kind
    return turn
