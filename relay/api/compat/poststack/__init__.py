"""The live PostStack dialect at /poststack: the native API in the words of the platform's official SDKs.

`table` says for each of their routes which native route answers it and how; `shapes` how a row of each resource looks; `app` does it. What it answers, the
SDK's own typed models accept: statuses and purposes that they do not know are mapped (shapes.WORDS), and the native word stands beside as `relayStatus`.
"""
