"""The engine: what both reconcilers run on. It knows Kubernetes and nothing of training or serving."""
