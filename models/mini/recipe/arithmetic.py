"""Sums, differences and products, with the working written out digit by digit."""

from turn import Turn, phrase

ASK = {
    "+": (["What is {a} + {b}?", "{a}+{b}", "{a} + {b} = ?", "Add {a} and {b}.", "What is the sum of {a} and {b}?",
           "How much is {a} plus {b}?", "{a} plus {b}", "Calculate {a} + {b}.", "What is {a} plus {b}?",
           "Tell me {a} + {b}.", "How much is {a}+{b}?"],
          ["Calculate the sum of {a} and {b}.", "What do you get for {a} plus {b}?", "Tell me how much {a} plus {b} is."]),
    "-": (["What is {a} - {b}?", "{a}-{b}", "{a} - {b} = ?", "Subtract {b} from {a}.", "How much is {a} minus {b}?",
           "{a} minus {b}", "Calculate {a} - {b}.", "What is {a} minus {b}?", "Take {b} from {a}.",
           "Tell me {a} - {b}.", "How much is {a}-{b}?"],
          ["Calculate {a} minus {b}.", "What do you get for {a} minus {b}?", "Tell me how much {a} minus {b} is."]),
    "x": (["What is {a} x {b}?", "{a}x{b}", "{a} * {b}", "{a} x {b} = ?", "Multiply {a} by {b}.", "What is {a}*{b}?",
           "How much is {a} times {b}?", "{a} times {b}", "Calculate {a} x {b}.", "What is {a} times {b}?",
           "What is the product of {a} and {b}?", "Tell me {a} x {b}."],
          ["Calculate the product of {a} and {b}.", "What do you get for {a} times {b}?",
           "Tell me how much {a} times {b} is."]),
}
NAMES = {"+": "sum", "-": "difference", "x": "product"}


def is_held(a, b, op):
    """A tenth of all sums and differences is never trained on."""
    return op != "x" and (a * 7919 + b * 104729 + ord(op)) % 10 == 3


def digits(a, b, op):
    """Returns the steps of a sum, or of a difference that is not negative: ones, then tens."""
    if op == "+":
        ones = a % 10 + b % 10
        steps = [f"{a % 10}+{b % 10}={ones}"]
        if a > 9 or b > 9 :
            carry = "+1" if ones > 9 else ""
            steps.append(f"{a // 10}+{b // 10}{carry}={a // 10 + b // 10 + ones // 10}")
        return steps
    borrow = a % 10 < b % 10
    top = a % 10 + 10 * borrow
    steps = [f"{top}-{b % 10}={top - b % 10}"]
    if a > 9:
        steps.append(f"{a // 10}-{b // 10}{'-1' if borrow else ''}={a // 10 - b // 10 - borrow}")
    return steps


def working(a, b, op):
    """Returns the steps and the result."""
    if op == "x":
        return [f"{a}x{b}={a * b}"], a * b
    if op == "-" and a < b:
        steps = [f"{a}<{b}", *digits(b, a, op), f"{b}-{a}={b - a}"]
        return steps, a - b
    return digits(a, b, op), a + b if op == "+" else a - b


def check(a, b, op, result):
    if op == "+":
        return f"{result}-{b}={a}"
    return f"{result}+{b}={a}" if op == "-" else f"{b}x{a}={result}"


def numbers(rng, held):
    while True:
        op = rng.choices("+-x", [4, 4, 3])[0]
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
    ask = phrase(rng, rng.choice(ASK[op][held]).format(a=a, b=b), held)
    name, low = NAMES[op], ", ".join(steps)
    medium = f"{a}{op}{b}. Steps: {low}. The {name} is {result}."
    high = (f"The user wants a {name}. It is {a}{op}{b}. I go step by step. Steps: {low}. The {name} is {result}. "
            f"Check: {check(a, b, op, result)}. That is right.")
    return Turn(ask, str(result), f"{a} {op} {b} = {result}.", "arithmetic",
                f"{a}{op}{b}: {low}, so {result}.", medium, high, number=True)


DRILLS = (["Work out: {}", "Calculate {}.", "{}", "Answer each: {}", "What are {}?"], ["Please work out: {}", "Solve {}."])


def one(rng, held, op):
    """A step as it occurs in the working of a sum, a difference or a product."""
    if op == "x":
        a, b = rng.randint(0, 12), rng.randint(0, 12)
        return f"{a}x{b}", a * b
    if op == "+":
        a, b, carry = rng.randrange(10), rng.randrange(10), rng.choice([0, 0, 1])
        return f"{a}+{b}" + "+1" * carry, a + b + carry
    b, borrow = rng.randrange(10), rng.choice([0, 0, 1])
    a = b + rng.randrange(10)
    return f"{a}-{b}" + "-1" * (borrow and a > b), a - b - (borrow and a > b)


def drill(rng, held):
    """Many small steps at once: they are learnt sooner so than one by one inside of sums."""
    op = rng.choice("+-x")
    steps = [one(rng, held, op) for _ in range(rng.randint(3, 8))]
    asked = ", ".join(step for step, _ in steps)
    answer = ", ".join(f"{step}={result}" for step, result in steps)
    think = "I work them out one by one."
    return Turn(rng.choice(DRILLS[held]).format(asked), answer, f"{answer}.", "drill", "One by one.", think,
                f"The user wants several results. {think}")
