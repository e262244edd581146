"""Money, ranges, telephone numbers, units and abbreviations as English speakers read them."""

import pytest

from processing_ttt.spoken_text_ttt import spoken_question, spoken_text

pytest.importorskip("wetext")


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("€12.40", "twelve euros and forty cents"),
        ("12.40 € or 12,40€.", "twelve euros and forty cents or twelve euros and forty cents."),
        ("$3.50, £0.99", "three dollars and fifty cents, ninety nine pence"),
        ("($1,200.50)", "(one thousand two hundred dollars and fifty cents)"),
        ("€1.234,56", "one thousand two hundred and thirty four euros and fifty six cents"),
        ("€5, $1, $3.00", "five euros, one dollar, three dollars"),
        ("$1.01 £1.01 $0.01 £0.00", "one dollar and one cent one pound and one penny one cent zero pounds"),
        ("-$5 and $-5.00", "minus five dollars and minus five dollars"),
        ("$3.5 million, €2.5m, $100k, $1 billion",
         "three point five million dollars, two point five million euros, one hundred thousand dollars, "
         "one billion dollars"),
        ("$5/month, $3.50/kg", "five dollars per month, three dollars and fifty cents per kilogram"),
        ("$5-10, $5–$10, $5.50-$6", "five to ten dollars, five to ten dollars, "
         "five dollars and fifty cents to six dollars"),
        ("¥500, 50¢", "five hundred yen, fifty cents"),
        ("$1200 and $1,000,000", "one thousand two hundred dollars and one million dollars"),
    ],
)  # fmt: skip
def test_money_is_read_in_units_and_hundredths(written, spoken):
    assert spoken_text(written) == spoken


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("1,000 and 1,250 and 1000.", "one thousand and one thousand two hundred and fifty and one thousand."),
        ("10–12 people, 1914-1918", "ten to twelve people, nineteen fourteen to nineteen eighteen"),
        ("the 1990s, 2010s, 1900s and 2000s",
         "the nineteen nineties, twenty tens, nineteen hundreds and two thousands"),
        ("24/7 in 2023/24", "twenty four seven in twenty twenty three twenty four"),
        ("½ cup, 1½ cups", "one half cup, one and a half cups"),
        ("~50, ≈ 50, ±5, 5±2", "about fifty, about fifty, plus or minus five, five plus or minus two"),
        ("−5 °C", "negative five degrees Celsius"),
        ("10^6", "ten to the power of six"),
        ("2 tbsp, 1 tsp, 1/2 tsp, 2 L", "two tablespoons, one teaspoon, one half teaspoon, two liters"),
        ("100 m, 1 m, 2 hrs, 30 mins, 5 m/s",
         "one hundred meters, one meter, two hours, thirty minutes, five meters per second"),
        ("5 ms and 20 m²", "five milliseconds and twenty square meters"),
        ("Call 555-1234.", "Call five five five, one two three four."),
        ("(555) 123-4567", "five five five, one two three, four five six seven"),
        ("+44 20 7946 0958", "plus four four, two zero, seven nine four six, zero nine five eight"),
        ("500-1000 people", "five hundred to one thousand people"),
    ],
)  # fmt: skip
def test_numbers_are_read_as_they_are_said(written, spoken):
    assert spoken_text(written) == spoken


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("Pets, e.g. cats, i.e., mine.", "Pets, for example cats, that is mine."),
        ("Cats vs. dogs, etc. and so on, etc.", "Cats versus dogs, et cetera and so on, et cetera."),
        ("No. It is no. No. 5 has 3.", "No. It is no. number five has three."),
        ("The U.S. and the U.K.", "The U S and the U K."),
        ("J.R.R. Tolkien at 10 A.M.", "J R R Tolkien at ten AM"),
        ("Mrs. Lee, Prof. Day, St. John", "Missus Lee, Professor Day, Saint John"),
        ("pp. 5-7, Fig. 3, ca. 50", "pages five to seven, figure three, about fifty"),
    ],
)
def test_abbreviations_are_read_as_words(written, spoken):
    assert spoken_text(written) == spoken


def test_signs_between_numbers_and_for_other_uses_are_read_as_before():
    written = "3 * 4 = 12, #1, 2 > 1, C#, 100 - 5, 5km at 5:30pm"
    assert spoken_text(written) == (
        "three times four equals twelve, number one, two > one, C hash, one hundred to five, five kilometers at "
        "five thirty PM"
    )
    assert spoken_question("what is 100 - 5?") == "What is one hundred minus five?"


@pytest.mark.parametrize(
    ("written", "language", "spoken"),
    [
        ("7×8", "zh", "七乘八"),
        ("€12.40", "zh", "十二点四零欧元"),
        ("8÷2", "ja", "八ワル二"),
        ("€12.40", "de", "€12.40"),
    ],
)
def test_no_english_word_is_put_into_another_language(written, language, spoken):
    assert spoken_text(written, language) == spoken
