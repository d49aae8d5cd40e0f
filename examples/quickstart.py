"""Search a repository and ask about it: python examples/quickstart.py [REPOSITORY] [QUESTION]"""

import sys

from agent import Agent

repository = sys.argv[1] if len(sys.argv) > 1 else "."
question = sys.argv[2] if len(sys.argv) > 2 else "How are citations checked?"

with Agent.open(repository) as agent:
    for hit in agent.search(question, k=5):
        print(f"{hit.score:.3f}  {hit.label}  {' > '.join(hit.scope)}")

    answer = agent.ask(question, max_tokens=200)
    print()
    print(answer.text)
    for citation in answer.citations:
        print(("verified    " if citation.verified else "not verified"), citation.label, "-", citation.reason)
    print(f"read {answer.usage.prompt_tokens} tokens, wrote {answer.usage.completion_tokens}")
