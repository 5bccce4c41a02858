"""Reading DynamoDB: a client that rides out every fault, and what it asks of tables and streams."""

import logging

# At debug, botocore logs session tokens; at warning, a stack trace for each failed refresh.
logging.getLogger("botocore").setLevel(logging.ERROR)
