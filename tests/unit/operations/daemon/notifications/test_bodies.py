"""Bodies and signatures of webhooks."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from dna_pipeline.config.receivers import ReceiverConfig
from dna_pipeline.operations.daemon.notifications.bodies import make_request, webhook_headers
from dna_pipeline.operations.daemon.notifications.messages import Message

AT = datetime(2026, 11, 29, 21, 0, tzinfo=UTC)
MESSAGE = Message("msg_1", "job.failed", AT, "<a> & @everyone: failed", {"code": "black_image"})
URL = "http://127.0.0.1:1/x"


def request(secret: str | None = None, **settings: Any) -> tuple[bytes, dict[str, str]]:
    return make_request(ReceiverConfig("r", url=URL, **settings), MESSAGE, secret)


def test_the_signature_is_that_of_the_published_example():
    # The example of the Standard Webhooks libraries, whatever language they are in.
    headers = webhook_headers(
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    )
    assert headers["webhook-timestamp"] == "1614265330"
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_two_keys_make_two_signatures():
    both = webhook_headers("m", 1, b"{}", "whsec_YWFh whsec_YmJi")["webhook-signature"]
    each = [webhook_headers("m", 1, b"{}", key)["webhook-signature"] for key in ("YWFh", "YmJi")]
    assert both.split() == each


def test_without_a_secret_nothing_is_signed():
    _, headers = request()
    assert headers["webhook-id"] == "msg_1"
    assert "webhook-signature" not in headers


@pytest.mark.parametrize("secret", ["whsec_no base64!", "whsec_äöü"])
def test_a_key_that_is_none_is_refused_without_being_quoted(secret: str):
    with pytest.raises(ValueError, match="whsec_` and the key in base64") as caught:
        request(secret)
    assert secret not in str(caught.value)


def test_standard():
    content, headers = request()
    assert json.loads(content) == {
        "type": "job.failed",
        "timestamp": "2026-11-29T21:00:00.000000Z",
        "data": {"line": MESSAGE.line, "code": "black_image"},
    }
    assert headers["content-type"] == "application/json"


def test_slack_gets_its_signs_escaped():
    content, headers = request(format="slack")
    assert json.loads(content) == {"text": "&lt;a&gt; &amp; @everyone: failed"}
    assert not {key for key in headers if key.startswith("webhook-")}


def test_discord_calls_nobody():
    content, _ = request(format="discord")
    body = json.loads(content)
    assert body == {"content": MESSAGE.line, "allowed_mentions": {"parse": []}}


def test_ntfy_gets_the_line_and_a_token():
    content, headers = request("tk_abc", format="ntfy")
    assert content.decode() == MESSAGE.line
    assert (headers["authorization"], headers["tags"]) == ("Bearer tk_abc", "warning")


def test_a_token_of_several_lines_is_refused():
    with pytest.raises(ValueError, match="one line"):
        request("tk\r\nX-Other: 1", format="ntfy")


def test_a_mapping_becomes_json_with_its_fields_filled():
    content, headers = request(body={"msg": '{type} "{line}"', "n": [1, "{code}", "{{x}}"]})
    assert json.loads(content) == {
        "msg": f'job.failed "{MESSAGE.line}"',
        "n": [1, "black_image", "{x}"],
    }
    assert "webhook-id" in headers


def test_a_text_stays_text():
    content, headers = request(body="{line} / {batch}")
    assert content.decode() == f"{MESSAGE.line} / "
    assert headers["content-type"].startswith("text/plain")
