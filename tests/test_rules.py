"""Every RPC has a rule. One without could be called by anybody."""

import re

from google.protobuf.message_factory import GetMessageClass

from epistream.services.security.access import Verb
from epistream.services.security.rules import RULES
from tests.support.methods import METHODS
from tests.test_layout import ROOT


def test_every_method_has_a_rule_and_every_rule_a_method() -> None:
    assert sorted(RULES) == sorted(METHODS)


def test_a_rule_says_where() -> None:
    for method, rule in RULES.items():
        said = [rule.namespace is not None, rule.everywhere, bool(rule.within)]
        assert said.count(True) == 1, method
        assert rule.verbs, method


def test_a_rule_finds_the_namespace_in_the_request() -> None:
    for method, described in METHODS.items():
        rule = RULES[method]
        if rule.namespace is None:
            continue
        request = described.input_type
        message = GetMessageClass(request)()
        field = "namespace" if "namespace" in request.fields_by_name else "name"
        setattr(message, field, "pharmacy")
        assert rule.namespace(message) == "pharmacy", method


def test_the_document_has_every_method_beside_its_verb() -> None:
    text = (ROOT / "docs" / "security.md").read_text()
    rows = dict(re.findall(r"^\| `(read|write|review|watch|admin)` \| (.+) \|$", text, re.MULTILINE))
    for method, rule in RULES.items():
        if len(rule.verbs) == 1:
            [verb] = rule.verbs
            assert re.search(rf"\b{method.split('/')[1]}\b", rows[verb.value]), method


def test_the_document_has_every_method_that_is_not_audited() -> None:
    [said] = re.findall(r"Questions that are answered are not in it: .*", (ROOT / "docs" / "security.md").read_text())
    for method, rule in RULES.items():
        named = rule.verbs == {Verb.READ} or re.search(rf"\b{method.split('/')[1]}\b", said)
        assert bool(named) is not rule.audited, method
