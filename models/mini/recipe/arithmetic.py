"""Sums, differences and products, with the working written out digit by digit."""

import zlib

from turn import Turn
from wordings import Wordings

PLUS = [
    "[What is|How much is|Tell me|Calculate|What's|Work out|I need|Compute|Give me|Find] {a} [+|plus] {b}[|.|?]", "{a}+{b}", "{a} + {b}",
    "{a} + {b} =[| ?]", "{a}+{b}=[|?]", "[Add|Sum up|Sum] {a} and {b}.", "Add {b} to {a}.", "Put {a} and {b} together.",
    "[What is|Tell me|Give me|Find|I need|Calculate] the [sum|total] of {a} and {b}[.|?]", "[Sum|The sum|Total|The total] of {a} and {b}?",
    "[How much|How many|What] [do|would] {a} and {b} [make|give|make together]?", "{a} plus {b}", "{a} plus {b} [is|equals|makes|gives][|?| what?]",
    "{a} and {b} [make|together|in all|added]?", "{a} and {b} [added|summed] [is|makes|gives] what?", "If I add {a} and {b}, what [is it|do I have|do I get]?",
    "[I have|There are|We have] {a} [apples|coins|eggs|books|cats|points] and [get|buy|find] {b} more. How many[| are there| is that| in all]?",
    "What [do you|do I|do we] get [if I add|when I add] {a} and {b}?", "Increase {a} by {b}.", "{a} increased by {b}?",
    "What is {b} more than {a}?", "[What number|How much] is {b} more than {a}?", "{b} more than {a}[|?| is what?]",
    "[Do|Solve|Try] {a} + {b}.", "[Can you|Please|Could you] add {a} and {b}[?|.]", "[Sum|Plus]: {a}, {b}", "Let me know {a} + {b}.",
    "[What's|What is] the [result|answer|value] of {a} [+|plus] {b}?", "[Result|Answer] of {a} [+|plus] {b}?", "[How much do|What do] I get for {a} [+|plus] {b}?",
]
MINUS = [
    "[What is|How much is|Tell me|Calculate|What's|Work out|I need|Compute|Give me|Find] {a} [-|minus] {b}[|.|?]", "{a}-{b}", "{a} - {b}",
    "{a} - {b} =[| ?]", "{a}-{b}=[|?]", "[Subtract|Take|Deduct] {b} from {a}.", "[Take|Get] {b} [off|away from|out of] {a}.", "Take {b} away from {a}.",
    "[What is|Tell me|Give me|Find|I need|Calculate] the difference [of|between] {a} and {b}[.|?]", "[Difference|The difference] of {a} and {b}?",
    "{a} minus {b}", "{a} minus {b} [is|equals|makes|gives][|?| what?]", "{a} less {b}[|?| is what?]", "{a} take away {b}[|?]",
    "If I [take|subtract] {b} from {a}, what [is left|remains|do I get]?", "What [is left|remains] [of {a} without {b}|if I take {b} from {a}|when {b} is taken from {a}]?",
    "[I have|There are|We have] {a} [apples|coins|eggs|books|cats|points] and [lose|sell|give away] {b}. How many [are left|remain]?",
    "[Reduce|Decrease|Lower] {a} by {b}.", "{a} [reduced|decreased] by {b}?", "[What|How much] is {b} less than {a}?", "{b} less than {a}[|?| is what?]",
    "[Do|Solve|Try] {a} - {b}.", "[Can you|Please|Could you] subtract {b} from {a}[?|.]", "[Minus|Difference]: {a}, {b}", "Let me know {a} - {b}.",
    "[What's|What is] the [result|answer|value] of {a} [-|minus] {b}?", "[Result|Answer] of {a} [-|minus] {b}?", "[How much do|What do] I get for {a} [-|minus] {b}?",
    "{b} from {a}[|?]", "{a} without {b}[|?| is what?]",
]
TIMES = [
    "[What is|How much is|Tell me|Calculate|What's|Work out|I need|Compute|Give me|Find] {a} [x|*|times] {b}[|.|?]", "{a}x{b}", "{a} x {b}", "{a}*{b}", "{a} * {b}",
    "{a} [x|*] {b} =[| ?]", "{a}[x|*]{b}=[|?]", "Multiply {a} [by|with|and] {b}.", "[What is|Tell me|Give me|Find|I need|Calculate] the product of {a} and {b}[.|?]",
    "[Product|The product] of {a} and {b}?", "{a} times {b}", "{a} times {b} [is|equals|makes|gives][|?| what?]", "{a} multiplied [by|with] {b}[|?| is what?]",
    "If I multiply {a} [by|and] {b}, what [is it|do I have|do I get]?", "What [do you|do I|do we] get [if I multiply|when I multiply] {a} and {b}?",
    "[There are|I have|We have] {a} [bags|boxes|rows] of {b} [apples|coins|eggs|books]. How many [is that|in all|are there]?",
    "[Do|Solve|Try] {a} x {b}.", "[Can you|Please|Could you] multiply {a} [by|and|with] {b}[?|.]", "[Times|Product]: {a}, {b}", "Let me know {a} x {b}.",
    "[What's|What is] the [result|answer|value] of {a} [x|*|times] {b}?", "[Result|Answer] of {a} [x|*|times] {b}?", "[How much do|What do] I get for {a} [x|*|times] {b}?",
]
ASK = {
    "+": Wordings(PLUS, ["Calculate the sum of {a} and {b}.", "What do you get for {a} plus {b}?", "Tell me how much {a} plus {b} is.",
                         "Which number is the sum of {a} and {b}?", "Please sum up {a} and {b}."]),
    "-": Wordings(MINUS, ["Calculate the difference of {a} and {b}.", "What do you get for {a} minus {b}?", "Tell me how much {a} minus {b} is.",
                          "Which number is left of {a} without {b}?", "Please take {b} from {a}."]),
    "x": Wordings(TIMES, ["Calculate the product of {a} and {b}.", "What do you get for {a} times {b}?", "Tell me how much {a} times {b} is.",
                          "Which number is the product of {a} and {b}?", "Please multiply {a} with {b}."]),
}
LESS = ASK["-"].without("ifference")
NAMES = {"+": "sum", "-": "difference", "x": "product"}


def is_held(a, b, op):
    """A tenth of all sums and differences is never trained on; there are too few products to leave any out.

    x+y and y+x, and what is left of their sum without either, are held together: each tells the others. Of two digits
    nothing is held, for that is what all else is worked out with.
    """
    if op == "x":
        return False
    first, second = sorted((a, b) if op == "+" else (min(a, b), abs(a - b)))
    return second > 9 and zlib.crc32(f"{first}+{second}".encode()) % 10 == 3


def digits(a, b, op):
    """Returns the steps of a sum, or of a difference that is not negative: ones, then tens."""
    if op == "+":
        ones = a % 10 + b % 10
        steps = [f"{a % 10}+{b % 10}={ones}"]
        if a > 9 or b > 9:
            carry = "+1" if ones > 9 else ""
            steps.append(f"{a // 10}+{b // 10}{carry}={a // 10 + b // 10 + ones // 10}")
        return steps
    borrow = a % 10 < b % 10
    top = a % 10 + 10 * borrow
    steps = [f"{top}-{b % 10}={top - b % 10}"]
    if a > 9:
        steps.append(f"{a // 10}-{b // 10}{'-1' if borrow else ''}={a // 10 - b // 10 - borrow}")
    return steps


def sign(a, b):
    return "<" if a < b else ">" if a > b else "="


def working(a, b, op):
    """Returns the steps and the result. A difference begins with which number is larger."""
    if op == "x":
        return [f"{a}x{b}={a * b}"], a * b
    if op == "+":
        return digits(a, b, op), a + b
    compared = f"{a}{sign(a, b)}{b}"
    if a < b:
        return [compared, *digits(b, a, op), f"{b}-{a}={b - a}"], a - b
    return [compared, *digits(a, b, op)], a - b


def check(a, b, op, result):
    if op == "+":
        return f"{result}-{b}={a}"
    return f"{result}+{b}={a}" if op == "-" else f"{b}x{a}={result}"


def numbers(rng, held):
    """Draws what to do and two numbers, of those that training asks or those that it leaves out."""
    op = rng.choices("+-x", [4, 5, 2])[0]
    while True:
        if op == "x":
            return rng.randint(0, 12), rng.randint(0, 12), op
        a, b = (rng.randrange(10) if rng.random() < 0.12 else rng.randrange(100) for _ in range(2))
        if op == "-" and a < b and rng.random() < 0.6:
            a, b = b, a
        if is_held(a, b, op) == held:
            return a, b, op


def arithmetic(rng, held):
    """A turn that asks for one operation."""
    a, b, op = numbers(rng, held)
    steps, result = working(a, b, op)
    # Asked for the difference, people say the larger number less the smaller, in whatever order.
    ask = (LESS if op == "-" and a < b else ASK[op]).say(rng, held, a=a, b=b)
    name, low = NAMES[op], ", ".join(steps)
    medium = f"{a}{op}{b}. Steps: {low}. The {name} is {result}."
    high = (f"The user wants a {name}. It is {a}{op}{b}. I go step by step. Steps: {low}. The {name} is {result}. "
            f"Check: {check(a, b, op, result)}. That is right.")
    return Turn(ask, str(result), f"{a} {op} {b} = {result}.", "arithmetic",
                f"{a}{op}{b}: {low}, so {result}.", medium, high, number=True, asked=name)


DRILLS = ["Work out: {}", "Calculate {}.", "{}", "Answer each: {}", "What are {}?"]


def one(rng, op):
    """A step as it occurs in the working of a sum, a difference, a product or an order."""
    if op == "x":
        a, b = rng.randint(0, 12), rng.randint(0, 12)
        return f"{a}x{b}", f"={a * b}"
    if op == "+":
        a, b, carry = rng.randrange(10), rng.randrange(10), rng.choice([0, 0, 1])
        return f"{a}+{b}" + "+1" * carry, f"={a + b + carry}"
    if op == "?":
        a, b = rng.randrange(100), rng.randrange(100)
        if rng.random() < 0.4:
            # Close ones are what is hard.
            b = max(0, min(99, a + rng.randint(-9, 9)))
        return f"{a}?{b}", f"{a}{sign(a, b)}{b}"
    b, borrow = rng.randrange(10), rng.choice([0, 0, 1])
    a = b + rng.randrange(10)
    less = borrow and a > b
    return f"{a}-{b}" + "-1" * less, f"={a - b - less}"


def drill(rng, held):
    """Many small steps at once: they are learnt sooner so than one by one inside of sums."""
    op = rng.choices("+-x?", [3, 4, 2, 3])[0]
    steps = [one(rng, op) for _ in range(rng.randint(3, 8))]
    asked = ", ".join(step for step, _ in steps)
    answer = ", ".join(result if op == "?" else f"{step}{result}" for step, result in steps)
    think = "I work them out one by one."
    return Turn(rng.choice(DRILLS).format(asked), answer, f"{answer}.", "drill", "One by one.", think,
                f"The user wants several results. {think}")
