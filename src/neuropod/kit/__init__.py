"""Small tools that know no domain: clock, identifiers, money, errors, tasks, wakeups, paging, secrets."""
