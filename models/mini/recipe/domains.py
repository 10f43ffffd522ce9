"""What the declared functions are for: their arguments, the questions that need them, and their results."""

from dataclasses import dataclass

from facts import COUNTRIES, DAYS
from names import WORDS, made_up, proper
from wordings import Wordings

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
    choices: list | None = None


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
DAY = Part(["day", "date", "when", "weekday"], "The day.", lambda rng, held: rng.choice(DAYS), DAYS)
LANGUAGE = Part(["language", "lang", "into", "target"], "The language.", lambda rng, held: rng.choice(LANGUAGES), LANGUAGES)
WORD = Part(["word", "text", "term", "source"], "The word.", word)
ROOM = Part(["room", "place", "where", "location"], "The room.", lambda rng, held: rng.choice(ROOMS), ROOMS)
STATE = Part(["state", "value", "switch", "mode"], "On or off.", lambda rng, held: rng.choice(["on", "off"]), ["on", "off"])
DEGREES = Part(["degrees", "temperature", "value", "target"], "The temperature.", upto(10, 30))
COUNTRY = Part(["country", "land", "nation", "place"], "The country.", lambda rng, held: rng.choice(list(COUNTRIES)))
START = Part(["start", "from", "origin", "source"], "Where it starts.", either(CITIES))
END = Part(["end", "to", "destination", "target"], "Where it ends.", either(CITIES))
SONG = Part(["song", "title", "track", "name"], "The song.", word)


@dataclass
class Domain:
    """A kind of function: its word, usual names, what is written about it, questions, result and answer.

    The word stands in all that is written about the function; the model names it before it looks for the function.
    `result` names the values that come back; `answer` uses them.
    """

    word: str
    names: list
    about: Wordings
    parts: list
    asks: Wordings
    result: dict
    answer: str


# Kinds of functions of which one could do what another is asked for.
NEAR = [{"timer", "alarm", "calendar"}, {"order", "price"}, {"message", "call"}]
OK = {"status": lambda rng, held: "ok"}
DOMAINS = [
    Domain("weather", ["get_weather", "weather", "forecast", "current_weather"],
           Wordings(["[Get|Tells|Returns|Gives|Look up|Fetch] the [|current ]weather [in|of|for] [a city|a place|a given city|a town].", "Weather [of a city|forecast for a place|service|in a city].", "[Tells|Reports] the weather."],
                    ["Get the weather report of a city.", "What the weather is like somewhere."]),
           [CITY], Wordings(
               ["[What is|How is|What's|How's] the weather [in|of|for] {0}[?| today?| now?]", "[|the ]weather [in|of|for] {0}", "Is it [sunny|warm|rainy|windy|cloudy|snowy|hot|dry|wet] in {0}[?| today?| now?]",
                "[Tell me|Show me|Give me|I need|Find|Check] the weather [in|of|for] {0}.", "[Will it|Does it] [rain|snow] in {0}?", "{0}: weather?", "{0}: [is it warm|how is the weather|rain or sun]?", "What weather [has|is in] {0}?",
                "How warm is it in {0}?", "What is the weather like in {0}?", "Do I need [a coat|an umbrella] in {0}?", "[Is there|Do they have] [rain|snow|sun|wind] in {0}?", "How [cold|hot|warm] is {0}[?| today?]", "Weather, {0}", "I go to {0}. How is the weather[| there]?", "The weather in {0} is[|?| how?]"],
               ["What's the weather like in {0}?", "Is it cold in {0}?", "Look up the weather of {0}.", "What kind of weather does {0} have?"]),
           {"sky": lambda rng, held: rng.choice(SKIES), "degrees": upto(0, 35)}, "It is {sky} in {0}, with {degrees} degrees."),
    Domain("time", ["get_time", "local_time", "clock", "time_in"],
           Wordings(["[Get|Tells|Returns|Gives|Look up] the [|local |current ]time [in|of|for] [a city|a place|a given city].", "Local time of a [city|place].", "[Tells|Shows] the time."],
                    ["Find the local time in a city.", "The time at a place."]), [CITY], Wordings(
        ["[What time|How late|Which time] is it in {0}[?| now?]", "[Tell me|Show me|Give me|I need|Find|Check] the [time|local time] in {0}.", "[|the ]time in {0}", "[What is|What's] the [local time|hour|clock time] in {0}?", "{0}: [what time is it|how late is it|time]?", "What does the clock [say|show] in {0}?",
         "[|the ]hour in {0}", "What [time|hour] has {0}?", "What hour is it in {0}?", "Is it [late|early|night|morning] in {0}?", "How late is it [now |]in {0}?", "Time, {0}", "I am in {0}. What time is it?", "The time in {0} is[|?| what?]", "[Can you|Please] tell me the time in {0}[?|.]", "What is the time now in {0}?", "[Clock|Time] of {0}[|?]", "I have a call with {0}. How late is it there?", "Is it already [late|morning|noon] in {0}?"],
        ["What is the time in {0}?", "Do you know the time in {0}?", "Say how late it is in {0}.", "Look up the time of {0}."]), {"hour": upto(0, 23)}, "It is {hour} o'clock in {0}."),
    Domain("timer", ["set_timer", "start_timer", "timer", "countdown"],
           Wordings(["[Start|Set|Starts|Sets] a timer[| for some minutes| of some minutes].", "A timer[| in minutes| for the kitchen].", "[Runs|Creates] a timer."],
                    ["Begin a timer.", "A timer that rings after some minutes."]), [MINUTES], Wordings(
        ["[Set|Start|Make|Put on] a timer [for|of|with] {0} minutes.", "timer[|,|:] {0} minutes", "[Start|Set] the timer[:| to| for] {0} minutes.", "{0} minutes on the timer.", "Tell me when {0} minutes are over.", "Count down {0} minutes.", "A timer [of|for] {0} minutes.", "[Remind me|Tell me|Ring] in {0} minutes.",
         "[Let|Have] the timer run [for |]{0} minutes.", "Time {0} minutes[| for me].", "[A|One] {0} minute timer[.|, please.]", "Start [a|the] {0} minute timer.", "Can you time {0} minutes?", "I need a reminder in {0} minutes.", "[Can you|Please] set a timer [for|of] {0} minutes[?|.]", "[Wait|Give me] {0} minutes and ring.", "The eggs need {0} minutes, start a timer.", "{0} minutes, go.", "Wake me in {0} minutes.", "Ring after {0} minutes.", "The cake is ready in {0} minutes. Time it.", "Timer, {0} minutes"],
        ["I need a timer for {0} minutes.", "Please start a timer for {0} minutes.", "Let a timer run for {0} minutes.", "Tell me once {0} minutes are over."]), OK, "The timer is set for {0} minutes."),
    Domain("alarm", ["set_alarm", "alarm", "wake_up", "add_alarm"],
           Wordings(["[Set|Sets|Add|Create] an alarm[| for an hour| at an hour].", "An alarm [clock|for the morning|at a given hour].", "[Rings|Starts] an alarm."],
                    ["Put an alarm on the clock.", "The alarm in the morning."]), [HOUR], Wordings(
        ["Set an alarm [for|at|to] {0}[.| o'clock.]", "[Wake|Wake me|Wake me up] at {0}[.| o'clock.]", "alarm [at|for] {0}[| o'clock]", "Set the alarm [to|for|at] {0}.", "I have to [get up|wake up|be up] at {0}.", "Put the alarm [on|at] {0}[.| o'clock.]", "Let the alarm ring at {0}.", "I get up at {0} o'clock, set the alarm.",
         "[Ring|Get me up|Get me out of bed] at {0}[.| o'clock.]", "The alarm [is|has to be|has to ring] at {0}.", "[Make|Add|Start] an alarm [for|at] {0}[.| o'clock.]", "[Tomorrow|Today] I [get up|wake up] at {0}[.| o'clock.]", "Let me [sleep|rest] until {0}[.| o'clock.]", "Wake [us|me] [tomorrow|today] at {0}.", "Do not let me sleep after {0}.", "[My|The] alarm: {0} o'clock", "Can you wake me [up |]at {0}?", "An alarm [at|for] {0}, please."],
        ["I need an alarm at {0}.", "Please wake me at {0} o'clock.", "I want to be woken at {0}.", "Let an alarm ring at {0} o'clock."]), OK, "The alarm is set for {0} o'clock."),
    Domain("message", ["send_message", "message", "send_text", "write_to"],
           Wordings(["[Send|Sends|Write|Deliver] a [|text ]message to [a person|someone|a friend].", "A message[| to someone| for a person].", "[Sends|Writes] a message."],
                    ["Pass a message on to somebody.", "Send somebody a message."]), [PERSON, TEXT], Wordings(
        ["Send {0} [the message|the text|this|a message]: {1}", "[Write|Write to|Text|Send to|Send|Tell] {0}: {1}", "Send the [text|message] \"{1}\" to {0}.", "[Write|Send|Text] \"{1}\" to {0}.", "Let {0} know: {1}", "[A|New|One] message to {0}: {1}",
         "Write {0} a message: {1}", "Tell {0} \"{1}\".", "[Give|Pass] {0} the message: {1}", "Say to {0}: {1}", "To {0}: {1}", "{0} has to [know|hear|read]: {1}", "[Quickly|Please|Now] [write|text|tell] {0}: {1}", "Can you [write|text|tell] {0}: {1}", "[Send|Write] a [text|note|message] to {0}: {1}", "{0} gets the message: {1}", "Text \"{1}\" to {0}.", "I want to [write|send|tell] {0}: {1}", "For {0}: {1}", "My message to {0} is: {1}"],
        ["Message {0}: {1}", "Send \"{1}\" to {0}, please.", "Write this to {0}: {1}", "Let {0} read: {1}"]), OK, "I sent the message to {0}."),
    Domain("translate", ["translate", "translate_word", "translation", "to_language"],
           Wordings(["[Translate|Translates] a [word|text][| into a language| to another language].", "[Translate|Translates] into [a|another|some] language.", "Can translate[| words]."],
                    ["Helps to translate words.", "Translate from English."]),
           [WORD, LANGUAGE], Wordings(
               ["Translate {0} [into|to] {1}.", "What is {0} in {1}?", "How do I [say|write] {0} in {1}?", "{0} in {1}[|?]", "The {1} word for {0}[|?]", "[Give me|Tell me|Write] {0} in {1}.", "What do people say for {0} in {1}?", "[What is|Tell me|What's] the {1} word for {0}[?|.]", "How is {0} called in {1}?",
                "{0}, but in {1}", "{1} for {0}?", "[What does {0} mean|What is the word {0}] in {1}?", "Put {0} into {1}.", "Translate [the word|this word]: {0}, into {1}", "{0} to {1}, translate.", "[Can you|Please] translate {0} [into|to] {1}[?|.]", "How do [they|people] say {0} in {1}?", "[Which|What] {1} word [means|is] {0}?", "I want {0} in {1}.", "[I do not know|I forgot] {0} in {1}.", "In {1}, what is {0}?", "In {1}: {0}", "{1} translation of {0}[|?]"],
               ["Say {0} in {1}.", "I need {0} in {1}.", "How would one say {0} in {1}?", "Turn {0} into {1}."]), {"translation": made_up}, "In {1}, {0} is {translation}."),
    Domain("light", ["set_light", "switch_light", "light", "lamp"],
           Wordings(["[Switch|Switches|Turn|Turns] a light on or off.", "Control the light [of|in] a room.", "[Controls|Sets] the light[| in a room]."],
                    ["Operate the light of a room.", "A light in the house, on or off."]),
           [ROOM, STATE], Wordings(
               ["[Turn|Switch|Put|Make|Set] the light [in|of] the {0} {1}.", "[Switch|Turn|Put] {1} the light [in|of] the {0}.", "{0} light {1}", "Light {1} in the {0}.", "[Put|Set|Make] the {0} light {1}.", "The {0} light has to be {1}.", "I want the light in the {0} {1}.", "Set the {0} light to {1}.",
                "The light in the {0}: {1}", "[Turn|Switch] the {0} lamp {1}.", "The lamp in the {0} {1}, please.", "Can I have the {0} light {1}?", "[Lights|Lamps] {1} in the {0}.", "{1} with the light in the {0}.", "[Can you|Please] [turn|switch|put] {1} the light in the {0}[?|.]", "[Can you|Please] [turn|switch|put] the light in the {0} {1}[?|.]", "{1}: the light in the {0}", "[Lights|Light] of the {0} {1}", "I [like|want] the {0} light {1}.", "Make it {1}, the light of the {0}.", "Set {1} the light of the {0}.", "In the {0}, turn the light {1}."],
               ["Turn {1} the {0} light.", "Please switch the {0} light {1}.", "I need the {0} light {1}.", "Switch the lamp of the {0} {1}."]),
           OK, "The light in the {0} is {1}."),
    Domain("heating", ["set_heating", "heat", "set_temperature", "heating"],
           Wordings(["[Set|Sets|Change|Adjust] the heating [of|in] a room.", "[Control|Controls] the heating[| of a room].", "The heating of a room."],
                    ["Regulate the heating.", "Sets how warm the heating makes a room."]),
           [ROOM, DEGREES], Wordings(
               ["[Heat|Warm] the {0} to {1}[.| degrees.]", "[Set|Bring|Get] the {0} to {1} degrees.", "{0} to {1} degrees", "Make the {0} {1} degrees warm.", "[I want|Keep] the {0} at {1} degrees.", "The {0} has to have {1} degrees.", "[Heating|Temperature] [of|in] the {0}: {1}", "Set the [heating|temperature] in the {0} to {1}[.| degrees.]",
                "{1} degrees [for|in] the {0}.", "Let the {0} be {1} degrees.", "The {0} is cold, make it {1} degrees.", "Turn the heating in the {0} to {1}.", "Heat up the {0} to {1}.", "[Can you|Please] [heat|warm] the {0} to {1} degrees[?|.]", "[Can you|Please] set the {0} to {1}[?|.]", "In the {0} I want {1} degrees.", "[Raise|Lower|Change] the {0} to {1} degrees.", "{1} degrees is right for the {0}.", "I am cold, heat the {0} to {1}.", "The {0} at {1} degrees[.|, please.]", "[Get|Make] it {1} degrees in the {0}.", "Temperature {1} [for|in] the {0}.", "Heating, {0}, {1} degrees"],
               ["I want {1} degrees in the {0}.", "Please heat the {0} to {1}.", "Warm up the {0} to {1} degrees.", "The {0} should have {1} degrees."]),
           OK, "The {0} is set to {1} degrees."),
    Domain("order", ["order_item", "order", "buy", "add_to_cart"],
           Wordings(["[Order|Orders] [an item|some of an item|a product|things].", "[Place|Places|Make] an order[| for an item].", "An order[| in the shop| of an item]."],
                    ["Give an order for some items.", "Order goods in a shop."]), [ITEM, COUNT], Wordings(
        ["[Order|Buy|Get] {1} of {0}.", "[Buy|Order] {1} times {0}.", "[I want|I take|I would take|We want] {1} of {0}.", "order {0}, {1} times", "[Get|Buy|Order|Send] me {1} of {0}.", "[Buy|Get] {0}, {1} of it.", "Order {0}: {1}", "Put {1} of {0} into my cart.", "Please buy {1} of {0}.", "{1} times {0} for me.",
         "[An order|New order]: {1} of {0}", "[I want to|I have to|We have to] [order|buy] {1} of {0}.", "Add {1} of {0} to the [cart|order].", "Can I [order|buy|have|get] {1} of {0}?", "{0} is out, buy {1}.", "[Can you|Please] [order|buy|get] {1} of {0}[?|.]", "[Can you|Please] [order|buy|get] {0}, {1} times[?|.]", "[Buy|Order|Get] {0}: {1} of them.", "We are out of {0}, order {1}.", "I run out of {0}. Buy {1}.", "Shop for {1} of {0}.", "Bring me {1} of {0}.", "{1} of {0}, please.", "Take {1} of {0} for me."],
        ["Please order {0}, {1} of it.", "I need {1} of {0}.", "Let us order {1} of {0}.", "Make an order: {0}, {1}"]), OK, "I ordered {1} of {0}."),
    Domain("price", ["get_price", "price", "cost_of", "price_of"],
           Wordings(["[Get|Tells|Returns|Look up|Find] the price of [an item|a product|a thing].", "The price of [an item|something].", "[Tells|Shows] the price."],
                    ["Ask for the price of an item.", "What the price of something is."]), [ITEM], Wordings(
        ["[What is|What's|Tell me|Give me|I need|Check|Find|Show me] the [price|cost] of {0}[?|.]", "How much [does {0} cost|is {0}|is one {0}|do they want for {0}|do I pay for {0}]?", "[|the ][price|cost] of {0}", "How [expensive|cheap] is {0}?", "{0}: [how much is it|price|how much]?", "What do I pay for {0}?",
         "At what price is {0} sold?", "Is {0} [expensive|cheap]?", "How many dollars is {0}?", "{0} costs [what|how much]?", "I want to buy {0}. How much is it?", "The price of {0} is[|?| what?]", "[Can you|Please] [tell|give|show] me the price of {0}[?|.]", "Do you know the price of {0}?", "[Price|Cost], {0}", "[I wonder|I want to know] what {0} costs.", "What would {0} cost me?", "How much money is {0}?", "Check what {0} costs."],
        ["What does {0} cost?", "How much is {0} in the shop?", "For how much is {0} sold?", "Say the price of {0}."]), {"price": upto(1, 99)}, "The price of {0} is {price} dollars."),
    Domain("calendar", ["add_event", "plan", "create_event", "calendar"],
           Wordings(["[Add|Adds|Write] an event to the calendar.", "[Put|Puts|Write] something [into|in] the calendar.", "[Writes into|Changes] the calendar."],
                    ["Enter an event in the calendar.", "A new date in the calendar."]),
           [TEXT, DAY], Wordings(
               ["[Plan|Add|Note|Event] for {1}: {0}", "[Add to|Put in|Put into|Write into] [my|the] calendar [on|for] {1}: {0}", "On {1}: {0}. Put it in the calendar.", "Remind me on {1}: {0}", "[Put on|Plan on|Note on] {1}: {0}", "{1}: {0}. Add it.", "[New event|An event|Event] on {1}: {0}",
                "I have to remember on {1}: {0}", "[My|The] plan for {1} is: {0}", "Add \"{0}\" on {1}.", "[Put|Write] \"{0}\" [on|for] {1} in the calendar.", "[Can you|Please] [add|plan|note] on {1}: {0}", "[Can you|Please] put \"{0}\" on {1}[?|.]", "Save for {1}: {0}", "{1}, {0}, into the calendar.", "[Schedule|Reserve] {1}: {0}", "My calendar on {1}: {0}", "[Do not let me forget|I must not forget] on {1}: {0}", "Calendar, {1}: {0}", "Keep {1} for this: {0}"],
               ["Calendar for {1}: {0}", "Put down in the calendar on {1}: {0}", "Note in my calendar for {1}: {0}", "An entry for {1}: {0}"]), OK, "It is in the calendar for {1}."),
    Domain("population", ["get_population", "population", "people_in", "count_people"],
           Wordings(["[Get|Tells|Returns|Look up|Find] the population of a country.", "The population of [a country|a nation].", "[Tells|Shows] the population."],
                    ["Ask for the population of a country.", "How large a population is."]), [COUNTRY], Wordings(
        ["How many people [live in {0}|has {0}|are in {0}|does {0} have]?", "[What is|What's|Tell me|Give me|I need|Find|Show me] the population of {0}[?|.]", "[|the ]population of {0}", "Tell me how many people {0} has.", "How big is the population of {0}?", "{0}: [how many people|population|how many live there]?",
         "[The|Tell me the|I need the] number of people in {0}[?|.]", "Count the people [of|in] {0}.", "How many live in {0}?", "How populated is {0}?", "{0} has how many people?", "How large is {0}'s population?", "{0}'s population?", "Do many people live in {0}?", "[Can you|Please] tell me the population of {0}[?|.]", "Do you know the population of {0}?", "Population, {0}", "How many [citizens|humans] has {0}?", "Is {0} a country with many people?", "What number of people lives in {0}?"],
        ["How many people are there in {0}?", "Look up the population of {0}.", "What is {0}'s population?", "Say how many people live in {0}."]), {"millions": upto(1, 99)},
           "{millions} million people live in {0}."),
    Domain("distance", ["get_distance", "distance", "how_far", "route"],
           Wordings(["[Get|Tells|Returns|Find|Compute] the distance [between|of] two [cities|places].", "The distance [of|between] two cities.", "[Tells|Shows] the distance."],
                    ["Measure the distance between cities.", "What the distance from here to there is."]),
           [START, END], Wordings(
               ["How far is it from {0} to {1}?", "[What is|What's|Tell me|I need|Find] the [distance|way] from {0} to {1}[?|.]", "{0} to {1}: how far?", "[|the ][distance|way] from {0} to {1}", "How many kilometers [|is it ]from {0} to {1}?", "How long is the way from {0} to {1}?", "From {0} to {1}, how far[| is it]?",
                "[Distance|The distance] between {0} and {1}?", "I go from {0} to {1}. How far is it?", "How far apart are {0} and {1}?", "[Is it|Is the way] far from {0} to {1}?", "How far do I [go|drive|walk] from {0} to {1}?", "{0} - {1}: distance?", "[Can you|Please] tell me the distance from {0} to {1}[?|.]", "Do you know how far it is from {0} to {1}?", "Distance, {0}, {1}", "I drive from {0} to {1}. How many kilometers?", "[Kilometers|Distance] from {0} to {1}?"],
               ["Tell me how far it is from {0} to {1}.", "How many kilometers lie between {0} and {1}?", "Say the distance from {0} to {1}.", "How far must I go from {0} to {1}?"]),
           {"kilometers": upto(10, 900)}, "It is {kilometers} kilometers from {0} to {1}."),
    Domain("song", ["play_song", "play", "music", "start_song"],
           Wordings(["[Play|Plays|Start|Starts] a song.", "A song[| to play| to hear].", "[Turns on|Puts on] a song."],
                    ["Let a song be heard.", "Begin to play a song."]), [SONG], Wordings(
        ["[Play|Start|Turn on|Put on|Play me] the song {0}.", "[Play|Put on|Play me] {0}.", "I want to [hear|listen to] [|the song ]{0}.", "[Music|Song|Play]: {0}", "Can I hear [|the song ]{0}?", "Let us [hear|listen to] [|the song ]{0}.", "I like the song {0}, play it.",
         "[Play|Start] the [music|track] {0}.", "Can you play [|the song ]{0}?", "[The song|My song] is {0}, start it.", "{0}, the song, please.", "Some music: {0}", "[Can you|Please] [play|start|put on] {0}[?|.]", "I [love|like] {0}. Play it.", "[Now|Next] play {0}.", "[Turn on|Start] the music: {0}", "Let the music play {0}.", "The next song is {0}.", "Play some {0}.", "Play {0} [again|for me|now].", "We want to hear {0}.", "{0} is the song I want."],
        ["Let me hear the song {0}.", "Let {0} play.", "I would like to hear {0}.", "Start playing {0}."]), OK, "Now playing {0}."),
    Domain("call", ["call_person", "call", "phone", "dial"],
           Wordings(["[Call|Calls] [a person|someone|a friend][| on the phone].", "[Make|Makes|Start] a call[| to a person].", "A [|phone ]call[| to someone]."],
                    ["Begin a call to somebody.", "Call somebody up."]), [PERSON], Wordings(
        ["[Call|Phone|Ring] {0}.", "I [want|have|need] to [talk|speak] to {0}.", "Make a [call|phone call] to {0}.", "Get {0} on the phone.", "Give {0} a [call|ring].", "[Connect|Put] me [with|through to] {0}.", "[Phone call|Call] to {0}.", "[Call|Phone|Ring] up {0}.", "[Call|Ring] {0} [up|now|for me].",
         "Can you [call|phone|ring] {0}?", "I want to [call|phone] {0}.", "Let me [talk|speak] to {0}.", "Reach {0} by phone.", "Start a call [with|to] {0}.", "[Please|Now] [phone|ring] {0}.", "I want {0} on the phone.", "{0} on the phone, please.", "[Try|Get] to call {0}.", "Phone, {0}", "Is {0} there? Call.", "I have to phone {0}.", "Make the phone call {0}.", "[Telephone|Ring] {0} [please|again].", "Call {0} [again|back|quickly]."],
        ["Please call {0} now.", "Dial {0}.", "I must speak with {0}.", "Get me {0} on the line."]), OK, "I am calling {0}."),
]
