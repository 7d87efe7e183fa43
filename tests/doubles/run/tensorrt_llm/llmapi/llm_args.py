"""tensorrt_llm.llmapi.llm_args, in the double: decoding configs, chosen as the versions do."""

from .._recorded import NUMBERS

KINDS = ("MTP", "Medusa", "Eagle", "Lookahead", "NGram", "DraftTarget", "UserProvided", "AUTO")


class DecodingBaseConfig:
    """Settings of speculative decoding; up to 1.2 made by from_dict, which takes the kind out of the fields."""

    def __init__(self, kind: str, fields: dict) -> None:
        self.kind, self.fields = kind, fields

    if NUMBERS < (1, 3):

        @classmethod
        def from_dict(cls, data: dict):
            if data.get("decoding_type") not in KINDS:
                raise ValueError(f"Invalid decoding type: {data.get('decoding_type')}")
            kind = data.pop("decoding_type")
            return cls(kind, data)


def check_speculative(given: object) -> None:
    """What the LLM of this version takes."""
    if NUMBERS < (1, 3):
        assert isinstance(given, DecodingBaseConfig), (
            "a union without a discriminator: a dict may become any kind"
        )
    else:
        assert isinstance(given, dict)
        assert given["decoding_type"] in KINDS
