"""Times as texts."""

from __future__ import annotations

from datetime import datetime

from hypothesis import example, given
from hypothesis import strategies as st

from core.clock import HKT, epoch_ms, hkt_texts

FIRST, LAST = (epoch_ms(datetime(year, 1, 1, tzinfo=HKT)) for year in (1970, 2100))


@given(st.integers(FIRST, LAST))
@example(epoch_ms(datetime(2026, 3, 12, tzinfo=HKT)))
@example(epoch_ms(datetime(2026, 3, 12, tzinfo=HKT)) - 1)
@example(epoch_ms(datetime(2026, 3, 12, 8, tzinfo=HKT)) - 1)
def test_a_stamp_is_what_strftime_says(ms: int) -> None:
    moment = datetime.fromtimestamp(ms // 1000, HKT)
    assert hkt_texts(ms) == (moment.strftime("%Y%m%d"), moment.strftime("%H%M%S"))
