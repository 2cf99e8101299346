"""Workflows: what happens to a contact, step by step, from something that happened to them.

    workflows.graph       nodes and edges as a value, and what is wrong with its shape
    workflows.steps       STEPS: the kinds of nodes, what each may say
    workflows.triggers    TRIGGERS: what begins a run, and when a schedule comes next
    workflows.check       all that is wrong with a workflow before it is activated
    workflows.begin       how runs begin: by the log, a schedule, by hand
    workflows.advance     one transaction of runs: each goes on as far as nothing outside is needed
    workflows.engine      the task: hears events, begins scheduled runs, takes those on that are due
    workflows.letters     the step that sends an email          workflows.calls    the step that asks a URL
    workflows.simulate    what would happen to a contact, and when
    workflows.acts        what can be done to a workflow                workflows.telling  how one is told

What makes a crash, a second node or a repetition harmless: a run begins in the transaction that moves the event log's cursor, and a step's effect (a message, a
changed contact) is written in the transaction that takes the run on. Only a request to elsewhere may be made twice; its Idempotency-Key says so.

    killed at           what is there afterwards
    ------------------  ---------------------------------------------------------------------------------------------
    workflow.heard      neither runs nor the cursor: the page of the log is read again
    workflow.taken      neither the message nor the step: the step is made again
    workflow.committed  both; the queue finds the message as it finds any
    workflow.called     the endpoint has the request and the step is not noted: it gets it again, with the same key
"""
