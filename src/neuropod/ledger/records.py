"""The rows of the ledger. Postings come with charging; the account row is here now, since admission locks it."""

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from neuropod.accounts.records import UserRow
from neuropod.db.record import Record
from neuropod.kit.money import Micros


class AccountRow(Record):
    """A user's account. `balance_micros` equals the sum of its postings; who promises anything of it locks the row."""

    __tablename__ = "accounts"

    user_id: Mapped[str] = mapped_column(ForeignKey(UserRow.id), primary_key=True)
    balance_micros: Mapped[Micros] = mapped_column(default=Micros(0))
