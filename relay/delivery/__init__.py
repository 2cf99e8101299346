"""One attempt: from a domain to what became of each recipient.

    route      where mail for a domain goes: [[delivery.route]], else MX        Router.route(domain) -> Route, raises NoRoute
    mx         what MX answers and addresses mean, as plain functions
    dns        names looked up, cached, one lookup per question                 Resolver.lookup(name, kind) -> Answer
    addresses  which addresses of a host to try, and from which of ours
    connect    greeting, EHLO, TLS, AUTH, the next host when one is not ready   Connector.connect(route) -> Connection, raises ConnectFailed
    tls        contexts, and the memory of servers whose STARTTLS is broken
    connection an open connection                                               Connection.deliver(job) -> [Outcome]
    offer      a job as commands, given what EHLO offered
    outcome    Job, Outcome, and what a transaction means for each recipient

The wire itself is relay/smtp/client.py on relay/smtp/channel.py; when to try again is relay/queue's business.
"""
