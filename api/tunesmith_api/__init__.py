"""The ground floor that all packages share: the API of both kinds, statuses, failures and the process contract."""
