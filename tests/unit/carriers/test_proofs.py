"""Proofs and carried credentials open only what they were made for."""

from datetime import timedelta

import pytest

from neuropod.gateway.carriers.proofs import CarrierKey
from neuropod.kit.secrets import SecretBox
from support.rows import NOW

KEY = CarrierKey(b"k" * 32)
HOST = "lab-abcdefgh-8888.pods.example.org"


def test_the_installations_key_makes_the_same_everywhere_and_cannot_be_found():
    key = SecretBox.new_key()

    assert CarrierKey.of_installation(SecretBox(key)).key == CarrierKey.of_installation(SecretBox(key)).key
    assert CarrierKey.of_installation(SecretBox(key)).key != key


def test_a_proof_is_for_one_subject():
    proof = KEY.proof("ingress a")

    assert KEY.is_proof("ingress a", proof)
    assert not KEY.is_proof("ingress b", proof)
    assert not KEY.is_proof("ingress a", "")
    assert not KEY.is_proof("ingress a", "é")
    assert "k" * 8 not in repr(KEY)


@pytest.mark.parametrize("credential", [("a-key", None), (None, "a-pass")])
def test_a_credential_is_carried_for_its_host_and_a_moment(credential):
    text = KEY.carry(*credential, HOST, now=NOW)

    assert KEY.carried(text, HOST, now=NOW + timedelta(seconds=29)) == credential
    assert KEY.carried(text, HOST, now=NOW + timedelta(seconds=31)) is None
    assert KEY.carried(text, "other." + HOST, now=NOW) is None
    assert CarrierKey(b"o" * 32).carried(text, HOST, now=NOW) is None
    assert not [secret for secret in credential if secret is not None and secret in text]


@pytest.mark.parametrize("text", ["", "x", "é", "AAAA", "A" * 100, "====", "!" * 40])
def test_what_is_not_ours_is_nothing(text):
    assert KEY.carried(text, HOST, now=NOW) is None
