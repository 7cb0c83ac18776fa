"""What other people's ingress controllers carry to ports on a cluster, with our gate in front: wanted objects. Pure.

`objects` builds what is wanted for routes, in the words of `names`; `traefik` and `nginx` are what the two classes of
controllers need; `proofs` is how the gate knows its carriers. Called by reconcile.ingress, which makes the objects so,
and by the gate's end of it, gateway.question.
"""
