"""The package's version, and one integer a stage: raise it when a change of code changes what the stage writes.

They stand in this light module, since the workflow reads them at every start: they enter the digests and the rules'
parameters, so that a change of method reruns what it touches and a change of a comment does not.
"""

__version__ = "0.1.0"

EXTRACT = 3  # deepjuice.extraction.stage: values in the feature store
PROFILE = 1  # deepjuice.influence: neurons in the files of profiles
SCORE = 4  # deepjuice.benchmark and deepjuice.scoring: values in the score files
AGGREGATE = 4  # deepjuice.results: the merged tables
REPORT = 4  # deepjuice.report: the page
