"""What a score is called."""


def score_name(extractor: str, count: int) -> str:
    """`fid_classifier_10k`, `fid_inception_512`: the FID is biased in the count, so the count is in its name."""
    return f"fid_{extractor}_{f'{count // 1000}k' if count % 1000 == 0 else count}"
