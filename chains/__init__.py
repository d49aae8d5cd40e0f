"""A question -> context -> prompt -> local model -> checked result, as LangChain parts."""
