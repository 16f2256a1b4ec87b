"""The Kubeflow pipelines, and the command line's `ganflow pipeline`. kfp is imported only when a verb needs it."""
