"""Reading DynamoDB: a client that rides out every fault, what the tables are, what a Scan asks."""

import logging

# At debug, botocore writes session tokens (requests to sign, STS answers) into its log.
logging.getLogger("botocore").setLevel(logging.INFO)
