"""The auditor: decides the accepted history anew and says where it is not what the rules say.

The chain makes history single; only deciding it again proves it right.
"""

from diurna_streams.audit.findings import Divergence, PartitionReport, Report
from diurna_streams.audit.service import Auditor
from diurna_streams.audit.verify import Progress, verify

__all__ = ["Auditor", "Divergence", "PartitionReport", "Progress", "Report", "verify"]
