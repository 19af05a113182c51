"""The function that flows.yaml names. Its type hint says that it wants a whole batch as a table."""

import pandas as pd


def with_new_column(df: pd.DataFrame) -> pd.DataFrame:
    df["new_column"] = df["old_column"] * 2
    return df
