"""`neuropod user …`: users, for administrators.

Rights and ways to sign in are given by people, not by keys (SECURITY 27), so `invite`, `role` and the making of another
administrator ask for your password.
"""

import sys

import click

from neuropod.cli.commands import UserCall, UserGroup
from neuropod.cli.person import signed_in
from neuropod.client.users import Users
from neuropod.kit.terminal.commands import choice_of
from neuropod.kit.terminal.tables import Column
from neuropod.kit.terminal.text import ago, local_time
from neuropod.wire.users import IdentityLink, SignInLink, User, UserCreate, UserEdit
from neuropod.words import Role, UserStatus, VolumesAtEnd

_COLUMNS = (
    Column("E-MAIL", shrinks=True),
    Column("NAME", shrinks=True),
    Column("ROLE"),
    Column("STATUS"),
    Column("PODS", right=True),
    Column("LAST SEEN"),
)
_COLOURS = {"suspended": "red", "deleting": "yellow"}


@click.group("user", cls=UserGroup)
def user() -> None:
    """Look after users; for administrators. A user is named by e-mail address or id."""


@user.command("ls", examples=["neuropod user ls", "neuropod user ls --search byron", "neuropod user ls --role admin"])
@click.option("--search", metavar="TEXT", help="Only those with it in their address or name.")
@click.option("--role", type=choice_of(Role), help="Only those of this role.")
@click.option("--status", type=choice_of(UserStatus), help="Only those; default: all but the deleted.")
@click.pass_obj
def list_(call: UserCall, search: str | None, role: str | None, status: str | None) -> None:
    """List users by address."""
    found = list(
        Users(call.connection()).list_users(
            search=search,
            role=None if role is None else Role(role),
            status=None if status is None else UserStatus(status),
        )
    )
    if call.show_json(found):
        return
    now = call.clock.now()
    rows = [
        [one.email, one.name, str(one.role), str(one.status), str(one.pods), ago(one.seen_at, now)] for one in found
    ]
    if rows:
        call.screen.table(_COLUMNS, rows, _COLOURS)
    else:
        call.screen.note("Nobody is like that.")


@user.command("show", examples=["neuropod user show ada@example.org"])
@click.argument("who", metavar="USER")
@click.pass_obj
def show(call: UserCall, who: str) -> None:
    """Show all about a user."""
    users = Users(call.connection())
    found = users.show_user(who)
    if not call.show_json(found):
        _show(call, found)
        for one in users.list_identities(found.id):
            used = f", used {local_time(one.used_at)}" if one.used_at is not None else ""
            call.screen.say(f"Signs in as {one.subject} at {one.issuer} ({one.id}{used})")


def _show(call: UserCall, found: User) -> None:
    pairs = [
        ("User", f"{found.email} ({found.name})"),
        ("Role", str(found.role)),
        ("Status", str(found.status)),
        ("Password", "set" if found.has_password else "none: signs in by a link"),
        ("Pods", str(found.pods)),
        ("Last seen", local_time(found.seen_at)),
        ("Created", local_time(found.created_at)),
        ("Suspended", local_time(found.suspended_at) if found.suspended_at else ""),
        ("Deleted", f"{local_time(found.deleted_at)}, volumes: {found.volumes_at_end}" if found.deleted_at else ""),
        ("In hosts", found.hash),
        ("Id", found.id),
    ]
    call.screen.fields([(name, value) for name, value in pairs if value])


@user.command(
    "create",
    examples=[
        "neuropod user create ada@example.org --invite",
        "neuropod user create root@example.org --role admin --name 'Root Two'",
    ],
)
@click.argument("email")
@click.option("--name", help="Their name; default: what stands before the @.")
@click.option("--role", type=choice_of(Role), default=Role.CLIENT.value, show_default=True, help="What they may do.")
@click.option("--invite", is_flag=True, help="Also make their first sign-in link; asks for your password.")
@click.pass_obj
def create(call: UserCall, email: str, name: str | None, role: str, invite: bool) -> None:
    """Make a user."""
    asked = UserCreate(email=email, name=name, role=Role(role))
    link = None
    if invite or asked.role is Role.ADMIN:
        with signed_in(call) as person:
            made = person.create_user(asked)
            link = person.make_sign_in_link(made.id) if invite else None
    else:
        made = Users(call.connection()).create_user(asked)
    if call.screen.json:
        shown = made.model_dump(mode="json")
        call.screen.data(shown if link is None else shown | {"sign_in_link": link.model_dump(mode="json")})
        return
    call.screen.note(f"Made {made.email} ({made.role}).")
    if link is not None:
        _say_link(call, link)
    else:
        call.screen.note(f"Invite them: {call.program} user invite {made.email}")


@user.command("invite", examples=["neuropod user invite ada@example.org"])
@click.argument("who", metavar="USER")
@click.pass_obj
def invite(call: UserCall, who: str) -> None:
    """Print a one-time link that signs a user in, for the first time or to set a new password.

    Asks for your password. Earlier links of the same user stop working.
    """
    with signed_in(call) as person:
        link = person.make_sign_in_link(who)
    if not call.show_json(link):
        _say_link(call, link)


def _say_link(call: UserCall, link: SignInLink) -> None:
    call.screen.say(link.url)
    call.screen.note(f"Signs {link.email} in, once, until {local_time(link.expires_at)}.")


@user.command("role", examples=["neuropod user role ada@example.org admin"])
@click.argument("who", metavar="USER")
@click.argument("role", type=choice_of(Role))
@click.pass_obj
def role_(call: UserCall, who: str, role: str) -> None:
    """Give a user another role; asks for your password. It holds from their next request on."""
    with signed_in(call) as person:
        changed = person.edit_user(who, UserEdit(role=Role(role)))
    if not call.show_json(changed):
        call.screen.say(f"{changed.email} is {changed.role} now.")


@user.command(
    "suspend", examples=["neuropod user suspend ada@example.org", "neuropod user suspend ada@example.org --reason left"]
)
@click.argument("who", metavar="USER")
@click.option("--reason", default="", help="Kept in the audit log, where they see it too.")
@click.pass_obj
def suspend(call: UserCall, who: str, reason: str) -> None:
    """Sign a user out, let their keys count for nothing, and stop their pods. Volumes and addresses stay."""
    changed = Users(call.connection()).suspend_user(who, reason)
    if not call.show_json(changed):
        call.screen.say(f"{changed.email} is suspended; their pods are being stopped.")
        call.screen.note(f"Let them in again: {call.program} user reinstate {changed.email}")


@user.command("reinstate", examples=["neuropod user reinstate ada@example.org"])
@click.argument("who", metavar="USER")
@click.pass_obj
def reinstate(call: UserCall, who: str) -> None:
    """Let a suspended user in again. Their keys count again, their pods stay stopped."""
    changed = Users(call.connection()).reinstate_user(who)
    if not call.show_json(changed):
        call.screen.say(f"{changed.email} is {changed.status}.")


@user.command("rm", examples=["neuropod user rm ada@example.org --volumes keep"])
@click.argument("who", metavar="USER")
@click.option("--volumes", required=True, type=choice_of(VolumesAtEnd), help="What becomes of their volumes.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.pass_obj
def rm(call: UserCall, who: str, volumes: str, yes: bool) -> None:
    """Delete a user: signed out for good, keys revoked, pods deleted. There is no way back.

    Asks first where somebody can answer: on a terminal.
    """
    users = Users(call.connection())
    found = users.show_user(who)
    if not yes and not call.screen.json and sys.stdin.isatty() and call.screen.is_terminal:
        kept = (
            "Their volumes are kept." if volumes == VolumesAtEnd.KEEP else "Their volumes are deleted, with all data."
        )
        click.confirm(f"Delete {found.email} and their {found.pods} pods? {kept}", abort=True)
    deleted = users.delete_user(found.id, VolumesAtEnd(volumes))
    if not call.show_json(deleted):
        call.screen.say(f"{deleted.email} is being deleted.")


@user.command(
    "link",
    examples=["neuropod user link ada@example.org --subject 7f3c9a", "neuropod user link ada@example.org --by-address"],
)
@click.argument("who", metavar="USER")
@click.option("--subject", help="The sign-in provider's subject, as shown to whom it refused.")
@click.option("--by-address", is_flag=True, help="The first that comes within a week with their verified address.")
@click.pass_obj
def link(call: UserCall, who: str, subject: str | None, by_address: bool) -> None:
    """Let somebody at the sign-in provider sign a user in; asks for your password."""
    if (subject is None) != by_address:
        raise click.UsageError("say --subject, or --by-address")
    with signed_in(call) as person:
        linked = person.link_identity(who, IdentityLink(subject=subject, by_address=by_address))
    if call.show_json(linked):
        return
    if linked.identity is not None:
        call.screen.say(f"{linked.identity.subject} at {linked.identity.issuer} signs {who} in now.")
    else:
        call.screen.say(f"The first with the address of {who} is linked, until {local_time(linked.by_address_until)}.")


@user.command("unlink", examples=["neuropod user unlink ada@example.org idn_01j8…"])
@click.argument("who", metavar="USER")
@click.argument("identity_id", metavar="ID")
@click.pass_obj
def unlink(call: UserCall, who: str, identity_id: str) -> None:
    """Let an identity (see `user show`) sign a user in no longer; asks for your password. Sessions go on."""
    with signed_in(call) as person:
        person.unlink_identity(who, identity_id)
    if call.screen.json:
        call.screen.data({"id": identity_id, "unlinked": True})
    else:
        call.screen.say(f"{identity_id} signs {who} in no longer.")
