"""What the declared functions are for: their arguments, the questions that need them, and their results."""

from dataclasses import dataclass

from facts import COUNTRIES, DAYS
from names import WORDS, made_up, proper

CITIES = [city for city, _ in COUNTRIES.values()]
PEOPLE = ["Ana", "Ben", "Clara", "David", "Emma", "Felix", "Grace", "Henry", "Ida", "Jack", "Laura", "Max", "Nina", "Oscar",
          "Paula", "Robert", "Sara", "Tom", "Victor", "Zoe"]
TEXTS = ["I am late", "see you soon", "call me", "happy birthday", "the train is late", "good luck", "dinner is ready",
         "buy milk", "water the garden", "read the book", "pay the bill", "feed the cat", "open the door", "I am home"]
LANGUAGES = ["French", "Spanish", "German", "Italian", "Polish", "Greek", "Dutch", "Swedish"]
ROOMS = ["kitchen", "garden", "office", "bath", "hall", "cellar", "garage"]
SKIES = ["sunny", "cloudy", "rainy", "windy", "snowy"]


@dataclass
class Part:
    """An argument: usual names, what it is, and how a value is drawn."""

    names: list
    about: str
    draw: object


def either(words, make=proper):
    """Draws a listed word, or one nobody has seen."""
    return lambda rng, held: rng.choice(words) if rng.random() < 0.6 else make(rng, held)


def upto(least, most):
    return lambda rng, held: rng.randint(least, most)


def word(rng, held):
    return rng.choice(WORDS) if rng.random() < 0.75 else made_up(rng, held)


CITY = Part(["city", "town", "place", "location"], "The city.", either(CITIES))
PERSON = Part(["person", "name", "to", "who"], "The person.", either(PEOPLE))
TEXT = Part(["text", "message", "content", "note"], "The text.", either(TEXTS, word))
ITEM = Part(["item", "product", "thing", "what"], "The item.", word)
COUNT = Part(["count", "amount", "number", "quantity"], "How many.", upto(2, 40))
MINUTES = Part(["minutes", "duration", "time", "length"], "How many minutes.", upto(1, 90))
HOUR = Part(["hour", "time", "at", "when"], "The hour.", upto(1, 23))
DAY = Part(["day", "date", "when", "weekday"], "The day.", lambda rng, held: rng.choice(DAYS))
LANGUAGE = Part(["language", "lang", "into", "target"], "The language.", lambda rng, held: rng.choice(LANGUAGES))
WORD = Part(["word", "text", "term", "source"], "The word.", word)
ROOM = Part(["room", "place", "where", "location"], "The room.", lambda rng, held: rng.choice(ROOMS))
STATE = Part(["state", "value", "switch", "mode"], "On or off.", lambda rng, held: rng.choice(["on", "off"]))
DEGREES = Part(["degrees", "temperature", "value", "target"], "The temperature.", upto(10, 30))
COUNTRY = Part(["country", "land", "nation", "place"], "The country.", lambda rng, held: rng.choice(list(COUNTRIES)))
START = Part(["start", "from", "origin", "source"], "Where it starts.", either(CITIES))
END = Part(["end", "to", "destination", "target"], "Where it ends.", either(CITIES))
SONG = Part(["song", "title", "track", "name"], "The song.", word)


@dataclass
class Domain:
    """A kind of function. `result` names the values that come back; `answer` uses them."""

    names: list
    about: list
    parts: list
    asks: tuple
    result: dict
    answer: str


OK = {"status": lambda rng, held: "ok"}
DOMAINS = [
    Domain(["get_weather", "weather", "forecast", "current_weather"], ["Get the weather in a city.", "Weather of a city."],
           [CITY], (["What is the weather in {0}?", "How is the weather in {0}?", "Is it sunny in {0}?", "weather in {0}",
                     "Tell me the weather in {0}.", "Will it rain in {0}?", "Is it warm in {0}?", "{0}: weather?", "What weather has {0}?", "How warm is it in {0}?", "What is the weather like in {0}?", "the weather of {0}", "Does it snow in {0}?"], ["What's the weather like in {0}?", "Is it cold in {0}?"]),
           {"sky": lambda rng, held: rng.choice(SKIES), "degrees": upto(0, 35)}, "It is {sky} in {0}, with {degrees} degrees."),
    Domain(["get_time", "local_time", "clock", "time_in"], ["Get the time in a city.", "Local time of a city."], [CITY],
           (["What time is it in {0}?", "Tell me the time in {0}.", "How late is it in {0}?", "time in {0}", "What is the local time in {0}?", "{0}: what time is it?", "Which time is it in {0}?", "What does the clock say in {0}?", "the hour in {0}", "What time has {0}?"],
            ["What is the time in {0}?", "Do you know the time in {0}?"]), {"hour": upto(0, 23)}, "It is {hour} o'clock in {0}."),
    Domain(["set_timer", "start_timer", "timer", "countdown"], ["Start a timer.", "Set a timer for some minutes."], [MINUTES],
           (["Set a timer for {0} minutes.", "Start a timer of {0} minutes.", "timer {0} minutes", "Wake me in {0} minutes.", "Start the timer: {0} minutes.", "{0} minutes on the timer.", "Tell me when {0} minutes are over.", "Count down {0} minutes.", "A timer of {0} minutes.", "Remind me in {0} minutes."],
            ["I need a timer for {0} minutes.", "Please start a timer for {0} minutes."]), OK, "The timer is set for {0} minutes."),
    Domain(["set_alarm", "alarm", "wake_up", "add_alarm"], ["Set an alarm.", "Set an alarm for an hour."], [HOUR],
           (["Set an alarm for {0} o'clock.", "Wake me at {0}.", "alarm at {0}", "Set the alarm to {0}.", "Wake me up at {0}.", "Alarm for {0}.", "I have to get up at {0}.", "Put the alarm on {0} o'clock.", "Let the alarm ring at {0}.", "I get up at {0} o'clock, set the alarm."],
            ["I need an alarm at {0}.", "Please wake me at {0} o'clock."]), OK, "The alarm is set for {0} o'clock."),
    Domain(["send_message", "message", "send_text", "write_to"], ["Send a message to a person.", "Write to someone."],
           [PERSON, TEXT], (["Send {0} the message: {1}", "Write to {0}: {1}", "Tell {0}: {1}", "Send the text \"{1}\" to {0}.", "Text {0}: {1}", "Send to {0}: {1}", "Write \"{1}\" to {0}.", "Let {0} know: {1}", "A message to {0}: {1}", "Send \"{1}\" to {0}.", "Write {0} a message: {1}"],
                            ["Message {0}: {1}", "Send \"{1}\" to {0}, please."]), OK, "I sent the message to {0}."),
    Domain(["translate", "translate_word", "translation", "to_language"], ["Translate a word.", "Translate into a language."],
           [WORD, LANGUAGE], (["Translate {0} into {1}.", "What is {0} in {1}?", "How do I say {0} in {1}?", "{0} in {1}", "The {1} word for {0}?", "Translate {0} to {1}.", "Give me {0} in {1}.", "What do people say for {0} in {1}?", "What is the {1} word for {0}?", "How is {0} called in {1}?", "{0}, but in {1}"],
                              ["Say {0} in {1}.", "I need {0} in {1}."]), {"translation": made_up}, "In {1}, {0} is {translation}."),
    Domain(["set_light", "switch_light", "light", "lamp"], ["Switch a light on or off.", "Control the light of a room."],
           [ROOM, STATE], (["Turn the light in the {0} {1}.", "Switch {1} the light in the {0}.", "{0} light {1}",
                            "Light {1} in the {0}.", "Put the {0} light {1}.", "Make the light in the {0} {1}.", "The {0} light has to be {1}.", "Switch the light of the {0} {1}.", "I want the light in the {0} {1}.", "Set the {0} light to {1}.", "Turn {1} the light in the {0}."], ["Turn {1} the {0} light.", "Please switch the {0} light {1}."]),
           OK, "The light in the {0} is {1}."),
    Domain(["set_heating", "heat", "set_temperature", "heating"], ["Set the heating of a room.", "Heat a room."],
           [ROOM, DEGREES], (["Heat the {0} to {1} degrees.", "Set the {0} to {1} degrees.", "{0} to {1} degrees",
                              "Make the {0} {1} degrees warm.", "Warm the {0} to {1} degrees.", "I want the {0} at {1} degrees.", "The {0} has to have {1} degrees.", "Heating of the {0}: {1}", "Set the heating in the {0} to {1}.", "Bring the {0} to {1} degrees.", "{1} degrees for the {0}."], ["I want {1} degrees in the {0}.", "Please heat the {0} to {1}."]),
           OK, "The {0} is set to {1} degrees."),
    Domain(["order_item", "order", "buy", "add_to_cart"], ["Order an item.", "Buy some of an item."], [ITEM, COUNT],
           (["Order {1} of {0}.", "Buy {1} times {0}.", "I want {1} of {0}.", "order {0}, {1} times", "Get me {1} of {0}.", "Buy {0}, {1} of it.", "Order {0}: {1}", "Put {1} of {0} into my cart.", "I would take {1} of {0}.", "Send me {1} of {0}.", "Please buy {1} of {0}.", "{1} times {0} for me."],
            ["Please order {0}, {1} of it.", "I need {1} of {0}."]), OK, "I ordered {1} of {0}."),
    Domain(["get_price", "price", "cost_of", "price_of"], ["Get the price of an item.", "What an item costs."], [ITEM],
           (["What is the price of {0}?", "How much does {0} cost?", "price of {0}", "Tell me the price of {0}.", "How expensive is {0}?", "How much do I pay for {0}?", "{0}: how much is it?", "What do I pay for {0}?", "the cost of {0}", "How much is {0}?", "At what price is {0} sold?"],
            ["What does {0} cost?", "How much is {0} in the shop?"]), {"price": upto(1, 99)}, "The price of {0} is {price} dollars."),
    Domain(["add_event", "plan", "create_event", "calendar"], ["Add an event to the calendar.", "Plan something for a day."],
           [TEXT, DAY], (["Plan for {1}: {0}", "Add to my calendar on {1}: {0}", "On {1}: {0}. Put it in the calendar.",
                          "Remind me on {1}: {0}", "Put on {1}: {0}", "{1}: {0}. Add it.", "Add for {1}: {0}", "Write into the calendar for {1}: {0}", "Note for {1}: {0}", "New event on {1}: {0}", "I have to remember on {1}: {0}"], ["Calendar for {1}: {0}", "Put into the calendar on {1}: {0}"]),
           OK, "It is in the calendar for {1}."),
    Domain(["get_population", "population", "people_in", "count_people"], ["Get the population of a country.",
                                                                         "How many people live in a country."], [COUNTRY],
           (["How many people live in {0}?", "What is the population of {0}?", "population of {0}", "Tell me how many people {0} has.", "How big is the population of {0}?", "How many people has {0}?", "{0}: how many people?", "The number of people in {0}?", "Count the people of {0}.", "How many live in {0}?", "How populated is {0}?"],
            ["How many people are there in {0}?", "Look up the population of {0}."]), {"millions": upto(1, 99)},
           "{millions} million people live in {0}."),
    Domain(["get_distance", "distance", "how_far", "route"], ["Get the distance between two cities.", "How far it is."],
           [START, END], (["How far is it from {0} to {1}?", "What is the distance from {0} to {1}?", "{0} to {1}: how far?",
                           "distance from {0} to {1}", "How many kilometers from {0} to {1}?", "How long is the way from {0} to {1}?", "From {0} to {1}, how far?", "The way from {0} to {1}?", "Distance between {0} and {1}?", "I go from {0} to {1}. How far is it?", "How far apart are {0} and {1}?"], ["Tell me how far it is from {0} to {1}.", "How far is {1} from {0}?"]),
           {"kilometers": upto(10, 900)}, "It is {kilometers} kilometers from {0} to {1}."),
    Domain(["play_song", "play", "music", "start_song"], ["Play a song.", "Start a piece of music."], [SONG],
           (["Play the song {0}.", "Play {0}.", "I want to hear {0}.", "Start the song {0}.", "Put on {0}.", "Music: {0}", "Can I hear {0}?", "Let us hear {0}.", "Play me {0}.", "I like the song {0}, play it.", "Turn on the song {0}."],
            ["Let me hear the song {0}.", "Let {0} play."]), OK, "Now playing {0}."),
    Domain(["call_person", "call", "phone", "dial"], ["Call a person.", "Phone someone."], [PERSON],
           (["Call {0}.", "Phone {0}.", "I want to talk to {0}.", "Make a call to {0}.", "Get {0} on the phone.", "Ring {0}.", "I have to speak to {0}.", "Give {0} a call.", "Connect me with {0}.", "Phone call to {0}.", "Call up {0}."], ["Please call {0} now.", "Dial {0}."]),
           OK, "I am calling {0}."),
]
