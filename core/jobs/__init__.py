"""Durable jobs: the queue and its workers, the timetable, the registry of all jobs."""

from core.jobs.queue import Handler, Job, JobRecord, Jobs, LeaseLost
from core.jobs.registry import REGISTRY, Domain, Entry, domains, entry_of, unbuilt
from core.jobs.timetable import JobStatus, Timetable
from core.jobs.verdicts import Again, Done, Exhausted, Failed, Verdict

__all__ = [
    "REGISTRY",
    "Again",
    "Domain",
    "Done",
    "Entry",
    "Exhausted",
    "Failed",
    "Handler",
    "Job",
    "JobRecord",
    "JobStatus",
    "Jobs",
    "LeaseLost",
    "Timetable",
    "Verdict",
    "domains",
    "entry_of",
    "unbuilt",
]
