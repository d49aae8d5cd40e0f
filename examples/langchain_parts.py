"""The same parts as LangChain Runnables: a retriever, a chat model and a chain, joined with `|`.

python examples/langchain_parts.py [REPOSITORY] [QUESTION]
"""

import sys

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda, RunnablePassthrough

from agent import Agent
from chains import AskSettings, ask_chain

repository = sys.argv[1] if len(sys.argv) > 1 else "."
question = sys.argv[2] if len(sys.argv) > 2 else "How are citations checked?"

with Agent.open(repository) as agent:
    retriever = agent.retriever(k=4)
    model = agent.llm  # an ordinary chat model: invoke, stream, batch, ainvoke, callbacks

    # Our chain, with something of yours behind it.
    cited = ask_chain(retriever, model, AskSettings(context_tokens=800, max_tokens=120))
    places = cited | RunnableLambda(lambda answer: [citation.label for citation in answer.citations])
    print(places.invoke(question))

    # Or your own chain from the same parts. Repository text is passed as a variable, never as a template.
    prompt = ChatPromptTemplate.from_messages(
        [("system", "Answer in one sentence from these sources:\n{sources}"), ("human", "{question}")]
    )
    own = (
        {
            "sources": retriever | (lambda documents: "\n\n".join(d.page_content for d in documents[:2])),
            "question": RunnablePassthrough(),
        }
        | prompt
        | model.bind(max_tokens=60)
        | StrOutputParser()
    )
    for piece in own.stream(question):
        print(piece, end="", flush=True)
    print()
