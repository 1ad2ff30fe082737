"""Texts as the page shows them."""

from dna_pipeline.interfaces.web.page.rendering import sentence, sentences


def test_commands_between_backticks_are_code():
    text = "no daemon runs; `dna-pipeline watch` starts one, `dna-pipeline run` too"
    assert sentence(text) == (
        "no daemon runs; <code>dna-pipeline watch</code> starts one, "
        "<code>dna-pipeline run</code> too"
    )


def test_nothing_else_in_a_sentence_is_html():
    assert sentence("`<b>` & \x1b[31m <script>`x") == (
        "<code>&lt;b&gt;</code> &amp; \\x1b[31m &lt;script&gt;`x"
    )
    assert sentence(None) == ""


def test_each_fault_of_a_yaml_has_a_line_of_its_own():
    assert sentences("line 1: not <1.7>\nline 2: unknown key") == (
        "line 1: not &lt;1.7&gt;<br>line 2: unknown key"
    )
