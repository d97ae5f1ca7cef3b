"""Risk control: the double-entry ledger of customers' money.

``operations`` is the table of what may happen, ``ledger`` carries it out, ``verification`` checks the books.
"""

from core.assets.answers import Balance, Finding, Hold, Outcome, Totals
from core.assets.ledger import RiskControl
from core.assets.operations import OPERATIONS, Bucket, Stage

__all__ = ["OPERATIONS", "Balance", "Bucket", "Finding", "Hold", "Outcome", "RiskControl", "Stage", "Totals"]
