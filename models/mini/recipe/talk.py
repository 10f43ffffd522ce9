"""Small talk, what the model says of itself, and what it politely refuses."""

from domains import DOMAINS
from facts import COUNTRIES, ask
from names import identifier, made_up, part, proper
from turn import Turn
from wordings import Wordings

SELF = "I am Conclave mini, a very small language model."
CAN = "I can do small sums, name capitals, sort numbers and call functions."

# Each: wordings, one word, the whole answer, what the user does.
TALK = [
    (Wordings(["[Hello|Hi|Hey][!|.| there!|, you!| again!]", "[Hello|Hi|Hey][| there]", "Good [day|evening|afternoon][!|.|]", "[Hello|Hi], [how do you do?|nice to meet you!]", "Greetings[!|.]", "[Nice|Good] to [meet|see] you[!|.]"],
              ["Hi, hello!", "Hey, hello there!", "Hello, good day!"]), "Hello", "Hello! How can I help you?", "greets me"),
    (Wordings(["[|Hello, |Hey, |A very ]good morning[!|.|]", "[Morning!|Good morning, you!|Good morning, how do you do?|Good morning, mini!]"],
              ["Hi, good morning!", "Good morning to you!"]), "Hello", "Good morning! How can I help you?", "greets me"),
    (Wordings(["[|Hi, |Hey, |So, ]how [are you|are you doing|do you feel|is it going|are things|do you do today][| today| now]?", "Are you [well|fine|okay|good|happy]?", "[How is your day?|How was your day?|Is all well?|Everything fine?]"],
              ["Hello, how are you today?", "Are you well today?", "How are you feeling?"]), "Well", "I am well, thank you. How can I help you?",
     "asks how I am"),
    (Wordings(["[Who|What] are you[?|, please?| really?]", "[What is|What's] your name?", "[Tell me|Say|Explain] [who|what] you are.", "Are you [ChatGPT|a person|a human|a robot|a large model|a model|an AI|real]?", "[Name|Introduce|Describe] yourself.",
               "[Which|What kind of] [model|machine|program] are you?", "[Who|What] am I talking to?", "Do you have a name?", "How are you called?", "Who is this?", "What should I call you?"],
              ["Tell me, who are you?", "Can you say who you are?", "Tell me your name.", "What model are you?"]), "Conclave",
     f"{SELF} {CAN}", "asks who I am"),
    (Wordings(["Who [made|trained|built|created|wrote|programmed] you?", "Where [do you|did you] come from?", "Did [a company|a person|OpenAI|people] [train|make] you?", "[How|Where|When] were you [made|trained|built]?", "[Who is your maker|Who is behind you|By whom were you made|What were you trained on]?"],
              ["Tell me who made you.", "Do you know who trained you?", "What company built you?"]), "Conclave",
     "I was trained from a small recipe that comes with Conclave.", "asks who made me"),
    (Wordings(["What [can you do|do you know|are you good at|can I ask you|can you help with][?| today?| for me?]", "How [can|do] you help me?", "Tell me what you can [do|answer].", "help[| me|!]", "[List|Name|Show] your [skills|abilities].", "[What are your skills|What are you for|What is it that you can do|What else can you do]?", "I need help.", "Can you help me?"],
              ["Can you tell me what you can do?", "What do you do?", "What can you help me with?"]), "Sums",
     CAN, "asks what I can do"),
    (Wordings(["[Thanks|Thank you|Many thanks|Thank you very much|Thanks a lot][!|.|]", "[Great|Good|Nice|Okay|Perfect], [thanks|thank you][!|.]", "[That helps|That was good|Very kind|That is right], [thanks|thank you][!|.]", "I thank you[!|.]"],
              ["Thanks, that was good.", "Thank you a lot!", "Thanks for the help!"]), "Welcome", "You are welcome!", "thanks me"),
    (Wordings(["[Bye|Goodbye|Bye bye|Good night|So long][!|.|]", "See you[| later| soon| tomorrow][!|.]", "[Bye|Goodbye], [see you|until then|good night|my friend].", "I [have to|must] go[.| now.]", "[That is all|I am done|I leave now][.|, bye.]"],
              ["Goodbye, see you later!", "Bye, good night!", "I have to leave, goodbye."]), "Goodbye", "Goodbye!", "says goodbye"),
]
SORRY = "Sorry, I do not know that. I am a very small model."
NO_TOOL = "Sorry, I cannot do that. I have no function for it."

# Questions beyond the tables; {n} and {m} are made-up names, {t} and {u} a thing and what is said of it.
BEYOND = Wordings(
    ["Who [is|was|are] {n}[?| {m}?]", "Who won the {t} [yesterday|today|in {y}]?", "[Write|Make|Tell me|Sing] [a poem|a song|a story|a joke] about [the|a] {t}.", "What [does {n} mean|is {n}|is a {n}]?", "[When|Where] was {n} born?",
     "Why is the {t} so {u}?", "How [old|tall|rich|famous] is {n}?", "Who [wrote|read] the book about {n}?", "How [far away|large|heavy|old] is the {t}?", "Explain [{n} to me|the {t}|how a {t} works].",
     "Where [does|did] {n} live?", "[What|Which] is the best {t}?", "Which {t} should I buy?", "How [do|can] I [repair|build|clean|sell] a {t}?", "Write [a song|a letter|a poem] for {n}.", "What happened [to {n}|to the {t}] in {y}?",
     "Who [invented|built|found|painted] the {t}?", "How does a {t} work?", "Give me a recipe [with|for] {t}.", "[Write|Show me] [code|a program] for a {t}.", "What is the root of {y}?", "Who was [the king|the queen|the president] of {c}[| in {y}]?",
     "What is the [history|language|money|flag] of {c}?", "How many {t}s are [in the world|in {c}|there]?", "Describe [a|the] {t}.", "What color is [my|the|a] {t}?", "[Why|When] did {n} [leave|stop|go to {c}]?", "What do you think of [the|my] {t}?",
     "Is the {t} {u}?", "Do you like [the {t}|{n}]?", "[What|Who] was in {c} in {y}?", "Tell me [about {n}|about the {t}|about {c}].", "Which team won in {y}?", "What is the meaning of the {t}?", "Draw [me a|a|the] {t}.", "Can you [fix|drive|see] my {t}?",
     "What is new in {c}?", "How [deep|long|wide] is the {t}?", "What did {n} say about the {t}?", "Compare a {t} and a {t}."],
    ["Do you know {n}?", "Write a story about the {t}.", "When did {n} live?", "Who made the first {t}?",
     "Tell me about the history of {c}.", "What should I know about {n}?", "How do I make a {t}?",
     "Who was king in {y}?"])
THINGS = ["game", "moon", "car", "river", "garden", "computer", "engine", "house", "horse", "bridge", "piano", "film",
          "phone", "train", "cake", "sun", "ship", "tree", "bird", "mountain", "clock", "school", "cat", "dog", "boat"]
FEELINGS = ["blue", "old", "big", "loud", "slow", "expensive", "famous", "green", "cold", "heavy"]


def talk(rng, held):
    row = rng.choice(TALK)
    wordings, word, answer, does = row
    ask = wordings.say(rng, held) if rng.random() < 0.5 else wordings.draw(rng, held)
    high = f"The user {does}. There is nothing to work out. I am a small model. I answer in a friendly way."
    return Turn(ask, word, answer, "talk", f"The user {does}.", f"The user {does}. I answer in a friendly way.", high, asked="talk")


def refusal(rng, held):
    """A question that nobody taught; also for capitals of countries that do not exist, and for what functions would do."""
    roll = rng.random()
    if roll < 0.15:
        domain = rng.choice(DOMAINS)
        question = domain.asks.say(rng, held, *(part.draw(rng, held) for part in domain.parts))
    elif roll < 0.4:
        # The shape of a known question, with a name that is not in the tables.
        kind = rng.choice(["capital", "continent", "opposite"])
        name = proper(rng, held) if kind != "opposite" else made_up(rng, held)
        question = ask(rng, kind, held, name)
    else:
        question = BEYOND.say(
            rng, held, n=proper(rng, held), m=proper(rng, held), t=rng.choice(THINGS), u=rng.choice(FEELINGS),
            y=rng.randint(1100, 2030), c=rng.choice(list(COUNTRIES)))
    return Turn(question, "Sorry", SORRY, "refusal", "I do not know this.",
                "The user asks for something I do not know. I say so.",
                "The user asks for something. It is not a small sum. It is not in what I have learned. I do not know it. "
                "I say so and do not guess.", for_function=roll < 0.15)


ECHO = Wordings(
    ["[Repeat|Repeat after me|Say|Say this|Write|Type|Echo|Copy|Copy this|Again|Once more|Read this|Echo this|Say the same]: {0}", "[Repeat|Say|Write|Type|Echo|Copy] {0}", "[Say|Write|Repeat] \"{0}\"", "[Write|Say|Repeat] the words {0}",
     "[Say|Repeat|Write] {0} again.", "[Please|Can you|I want you to|Now] [say|repeat|write|type|echo|copy][:|] {0}", "Tell me this again: {0}", "The same words again: {0}"],
    ["Repeat this: {0}", "Write this: {0}", "Say it again: {0}", "Could you repeat: {0}", "I would like you to write {0}"])


def letters(rng):
    """A word without sense, so that all tokens are copied now and then."""
    word = "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randint(2, 7)))
    return word.capitalize() if rng.random() < 0.3 else word


def echo(rng, held):
    """Words to be said again. Copying is what most other families rest on, so training begins with it."""
    def word():
        roll = rng.random()
        if roll < 0.2:
            return letters(rng)
        return identifier(rng, held) if roll < 0.45 else str(rng.randrange(1000)) if roll < 0.6 else part(rng)

    words = " ".join(word() for _ in range(rng.randint(1, 5)))
    return Turn(ECHO.draw(rng, held).format(words), words, words, "echo", f"Repeat {words}.",
                f"The user wants to read this: {words}", f"The user wants to read something again. I copy it: {words}")
