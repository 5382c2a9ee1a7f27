"""A source that is randomuser.me's, but for users whose decoding kills the process at once."""

import os
import signal

from randomuser import RandomUser, UserRow

POISON = b'"city":"Poison"'


class PoisonousUser(RandomUser):
    name = "tests.support.poison"

    def decode(self, record: bytes) -> UserRow:
        if POISON in record:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().decode(record)


SOURCE = PoisonousUser()
