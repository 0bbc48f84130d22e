"""Writes users as an application does, which knows nothing of Larder.

    python write.py            makes a hundred of them
    python write.py ID NAME    gives one another name
"""

import os
import sys

from pymongo import MongoClient

users = MongoClient(os.environ["MONGODB_URI"]).app.users

if len(sys.argv) == 1:
    users.insert_many([{"_id": str(number), "name": f"user {number}"} for number in range(100)])
else:
    users.update_one({"_id": sys.argv[1]}, {"$set": {"name": sys.argv[2]}}, upsert=True)
