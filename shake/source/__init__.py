"""Reading DynamoDB: a client that rides out every fault, what the tables are, what a Scan asks."""

import logging

# At debug, botocore logs session tokens; at warning, a stack trace for each failed refresh.
logging.getLogger("botocore").setLevel(logging.ERROR)
