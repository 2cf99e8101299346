"""The Plunk dialect at /plunk: track, send, contacts, segments, templates, events, as Plunk's clients speak, on the native contacts, segments and door.

    app        the application: routers, CORS for /v1, errors      errors     the envelope of an error
    data       what may be in `data`, pure                         paging     cursor and offset pages
    once       Idempotency-Key: a second use is refused            interval   startDate and endDate

    The routes are in the file of their first word: track, send, verify, contacts, fields, bulk, imports, segments, templates, events, campaigns, domains,
    suppressions, forms, activity, analytics, config.

One store serves all dialects. A contact's `data` are its properties, `subscribed` is the opposite of its `unsubscribed`; ids are the native ones, which Plunk's
clients keep as opaque texts. A `full_access` key is Plunk's secret key; a `sending_access` key may track and send, as its public key may track.
"""
