"""Joining texts with a list of texts, against looking each one up."""

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.places import places_of

TEXT = st.sampled_from(["", "a", "b", "ab", "é", "0"])


@given(st.lists(st.none() | TEXT), st.lists(TEXT, unique=True), st.booleans())
def test_each_text_has_its_place(texts, known, are_categories):
    series = pd.Series(texts, dtype="str")
    if are_categories:
        series = series.astype("category")
    expected = [known.index(text) if text in known else -1 for text in texts]
    assert places_of(series, known).tolist() == expected


@pytest.mark.parametrize("names", [["b", "c", "a"], ["b"]])
def test_categories_need_not_be_used(names):
    series = pd.Series(pd.Categorical(["b", None, "b"], categories=["z", *names]))
    assert places_of(series, ["a", "b"]).tolist() == [1, -1, 1]
