"""Reads DynamoDB: a client that retries after faults, and its requests for tables and streams."""

import logging

# At debug, botocore logs session tokens; at warning, a stack trace for each failed refresh.
logging.getLogger("botocore").setLevel(logging.ERROR)
