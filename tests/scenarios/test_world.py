import hashlib
import subprocess
import sys
from itertools import product

import pytest

from seqmem_scenarios.world import (
    ATTRIBUTES,
    ROLES,
    Draw,
    World,
    answer,
    background,
    biography,
    dialogue,
    filler,
    holds_form,
    loop_place,
    make_facts,
    place_prose,
    population,
    qa,
    question_prompt,
    statement,
    statement_prompt,
)


def test_attributes_have_closed_sets_and_enough_wordings() -> None:
    assert len(ATTRIBUTES) >= 6
    for attribute in ATTRIBUTES:
        assert len(set(attribute.values)) == len(attribute.values) >= 64
        assert len(set(attribute.statements)) >= 6
        assert len(set(attribute.questions)) >= 3
        assert all(form.endswith(" {value}.") and "{name}" in form for form in attribute.statements)
        assert all("{name}" in form and "{value}" not in form for form in attribute.questions)
    two_words = [a for a in ATTRIBUTES if all(value.count(" ") == 1 for value in a.values)]
    assert len(two_words) >= 2


def test_names_of_different_roles_are_disjoint_in_every_world() -> None:
    surnames: dict[str, set[str]] = {role: set() for role in ROLES}
    for seed, role in product(range(3), ROLES):
        surnames[role] |= {person.name.split()[-1] for person in World(seed).people(role, 600)}
    for one, other in product(ROLES, ROLES):
        assert one == other or not surnames[one] & surnames[other]


@pytest.mark.parametrize("role", ["known", "cast"])
def test_names_are_unique_beyond_the_plain_population(role: str) -> None:
    names = [person.name for person in World(2).people(role, population(role) + 100)]
    assert len(set(names)) == len(names)
    assert all(len(name.split()) == 2 for name in names[: population(role)])


def test_a_person_is_a_pure_function_of_seed_role_and_index() -> None:
    assert World(1).person("known", 7) == World(1).person("known", 7)
    assert World(1).person("known", 7) != World(2).person("known", 7)
    with pytest.raises(ValueError, match="starts at 0"):
        World().person("known", -1)


def test_content_is_the_same_on_every_machine() -> None:
    """Frozen text: a change here is a new WORLD_VERSION and needs new models."""
    texts = [background(seed, index) for seed in range(3) for index in range(100)]
    texts += [place_prose(seed, loop, 5) for seed in range(3) for loop in range(20)]
    texts += [qa(fact, 1) + statement(twin, 2) for fact, twin in make_facts(3, 50)]
    digest = hashlib.sha256("\n".join(texts).encode()).hexdigest()
    assert digest == "8b4af8c1b0f0e515e20a75466d7ea16c238db4dbdf668a6443c97006221bba5e"


def test_facts_are_distinct_balanced_and_have_differing_twins() -> None:
    pairs = make_facts(5, 60)
    people = [fact.person.name for pair in pairs for fact in pair]
    assert len(set(people)) == 120
    for name in (attribute.name for attribute in ATTRIBUTES):
        assert sum(fact.attribute == name for fact, _ in pairs) == 10
    for fact, twin in pairs:
        assert fact.attribute == twin.attribute and fact.value != twin.value
        assert fact.person.values[fact.attribute] == fact.value
        assert twin.person.values[twin.attribute] == twin.value
    assert len({fact.id for pair in pairs for fact in pair}) == 120
    assert len({fact for pair in pairs for fact in pair}) == 120  # facts can be keys
    assert make_facts(5, 10) == pairs[:10]
    assert not {f.person.name for f, _ in make_facts(6, 60)} & {f.person.name for f, _ in pairs}


def test_fact_values_are_uniform() -> None:
    counts = dict.fromkeys(ATTRIBUTES[2].values, 0)
    for fact, _ in make_facts(0, 6400, ["town"]):
        counts[fact.value] += 1
    chi_square = sum((count - 100) ** 2 / 100 for count in counts.values())
    assert chi_square < 103.4  # 63 degrees of freedom, p = .001


def test_facts_reject_what_they_cannot_make() -> None:
    with pytest.raises(ValueError, match="unknown attribute 'shoe'"):
        make_facts(0, 1, ["shoe"])
    with pytest.raises(ValueError, match="0 to"):
        make_facts(0, 10**9)


def test_prompts_are_continued_by_the_answer() -> None:
    for fact, _ in make_facts(1, 12):
        for wording in range(9):
            assert statement_prompt(fact, wording) + answer(fact) + "." == statement(fact, wording)
            assert question_prompt(fact, wording) + answer(fact) + "." == qa(fact, wording)
            assert question_prompt(fact, wording).startswith("Q: ")
            assert question_prompt(fact, wording).endswith(" A:")


def test_a_biography_states_what_it_asks() -> None:
    person = World().person("unseen", 3)
    text = biography(person, Draw("test"), ["town", "dish"], questions=2)
    assert text.count("Q: ") == 2
    for attribute in ("town", "dish"):
        assert text.count(person.values[attribute]) == 2
    assert person.values["emblem"] not in text


def test_documents_are_pure_and_varied() -> None:
    for document in (filler, dialogue, background):
        texts = [document(4, index) for index in range(200)]
        assert texts == [document(4, index) for index in range(200)]
        assert len(set(texts)) > 195
        assert all("{" not in text and not text[0].islower() for text in texts)
    speakers = [line.split(":")[0] for line in dialogue(4, 1).split("\n")]
    assert len(speakers) >= 4 and len(set(speakers)) == 2


def test_general_text_names_nobody_who_is_asked_about() -> None:
    surnames = {
        person.name.split()[-1] for role in ROLES if role != "cast" for person in World().people(role, 2200)
    }
    words = {word.strip(".,:?") for index in range(300) for word in background(0, index).split()}
    assert not words & surnames


def test_each_loop_has_its_own_place() -> None:
    places = [loop_place(3, loop) for loop in range(16)]
    assert len({site for site, _ in places}) == len({name for _, name in places}) == 16
    assert len({loop_place(3, loop) for loop in range(200)}) == 200
    for loop, (site, name) in enumerate(places):
        texts = [place_prose(3, loop, index) for index in range(20)]
        assert all(name in text and site in text for text in texts)
        assert len(set(texts)) > 15
    with pytest.raises(ValueError, match="places"):
        loop_place(0, 256)


def test_draws_are_uniform_and_in_range() -> None:
    draw = Draw("uniform", 1)
    numbers = [draw.below(10) for _ in range(5000)]
    assert set(numbers) == set(range(10))
    assert abs(sum(numbers) / 5000 - 4.5) < 0.2
    assert sorted(draw.shuffled(range(50))) == list(range(50))
    assert len(set(draw.sample(range(50), 20))) == 20
    assert Draw("a", 1).below(10**9) != Draw("a", "1").below(10**9)


def test_the_world_needs_no_torch() -> None:
    code = "import sys, seqmem_scenarios.world; sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_wording_is_known_as_a_form_and_no_prose_is() -> None:
    for number, (fact, twin) in enumerate(make_facts(0, 24)):
        for wording in range(8):
            assert holds_form(f"It rained. {statement(fact, wording)} Nobody came.")
            assert holds_form(f"It rained.\n{qa(twin, wording)}")
        assert not holds_form(filler(0, number))
        assert not holds_form(dialogue(0, number))
        assert not holds_form(place_prose(0, number, number))
