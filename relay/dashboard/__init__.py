"""The dashboard: pages for people who would rather look than call an API, under /dashboard.

    house      every page of it as a route: who may see it, what an error looks like, the headers that keep scripts out
    rooms      which files have pages, and the navigation
    visit      one request: who asks, what was asked, and the answer
    session    the signed cookie and the token in forms         signin     in, out
    view       templates, filters, static files
    mail, queue, captured, domains, keys, webhooks, ...          the pages, one file a noun

A page is an async function of a Visit. It calls the same functions as the API's routes (relay.api), so it can do nothing that the API cannot, sees one
project, and errs with the same words. Pages are rendered here and work without JavaScript, which adds live figures, charts and copying; no script stands in a
page, so none that somebody wrote into a subject or a name can run (Content-Security-Policy, and every value is escaped).
"""
