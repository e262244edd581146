// A typed English question as its transcript would be, for a model that learnt from speech: whole numbers up to 999, signs
// of arithmetic, capitals. `spoken_question` in Python reads other numbers too (years, dates, money); here they stay.

const ONES = `zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
  eighteen nineteen`.split(/\s+/);
const TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split(" ");
const SIGNS = { "+": "plus", "×": "times", "*": "times", x: "times", "÷": "divided by", "=": "equals" };
const BETWEEN_NUMBERS = { "-": "minus", "−": "minus", "/": "divided by" };

export function spokenNumber(number) {
  const [hundreds, rest] = [Math.floor(number / 100), number % 100];
  const tens = rest < 20 ? ONES[rest] : TENS[Math.floor(rest / 10) - 2] + (rest % 10 ? ` ${ONES[rest % 10]}` : "");
  if (!hundreds) return tens;
  return `${ONES[hundreds]} hundred${rest ? ` and ${tens}` : ""}`;
}

export function spokenQuestion(text) {
  text = text.trim().replace(/(?<=\d) ?= ?\??$/, "?");
  const words = text.split(/\s+/).length;
  if (words > 1 && text === text.toUpperCase() && text !== text.toLowerCase()) text = text.toLowerCase();
  text = text
    .replace(/(?<![\d/-])(\d{1,3}) ?([-−/]) ?(\d{1,3})(?![\d/-])/g, (_, a, sign, b) => `${a} ${BETWEEN_NUMBERS[sign]} ${b}`)
    .replace(/(?<=\d) ?([+×*x÷=]) ?(?=\d)/g, (_, sign) => ` ${SIGNS[sign]} `)
    .replace(/(?<![\w.,:/$€£¥#-])(0|[1-9]\d{0,2})(?![\w/€$£¥°-]|[.,:]\d| ?%)/g, (number) => spokenNumber(Number(number)));
  return text.slice(0, 1).toUpperCase() + text.slice(1);
}
