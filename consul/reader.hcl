# Rules for the token of a person or a dashboard that only reads.
#
#   consul acl policy create -name weightd-reader -rules @reader.hcl
#   consul acl token create -description dashboard -policy-name weightd-reader
#
# Every write ends with exit code 4. If Consul has `acl.enable_key_list_policy`, use "list" instead
# of "read".

# The documents. Without this rule, `get`, `list` and `status` end with exit code 4.
key_prefix "weightd/weights/" { policy = "read" }

# What happened to each backend.
key_prefix "weightd/history/" { policy = "read" }

# Whether changes are stopped.
key "weightd/freeze" { policy = "read" }
key_prefix "weightd/freeze/" { policy = "read" }

# The rollouts, who leads, and the plans.
key_prefix "weightd/rollouts/" { policy = "read" }
key "weightd/controller" { policy = "read" }
key_prefix "weightd/plans/" { policy = "read" }

# What the nodes have, which nodes exist, and how many there should be.
key_prefix "weightd/nodes/" { policy = "read" }
key_prefix "weightd/inventory/" { policy = "read" }
key "weightd/expect" { policy = "read" }

# The numbers that the nodes report while somebody else observes a backend. To observe needs a rule
# to write, as in operator.hcl.
key_prefix "weightd/counters/" { policy = "read" }
