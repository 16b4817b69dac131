# Rules for the token of an operator who can shift every backend with weightctl.
#
#   consul acl policy create -name weightd-operator -rules @operator.hcl
#   consul acl token create -description alice -policy-name weightd-operator
#
# Create one token for each person: the audit log of Consul contains the token, while `by` in a
# document is free text. For a read-only operator, use reader.hcl. Then `get`, `list` and
# `--dry-run` work, and every write ends with exit code 4. If Consul has
# `acl.enable_key_list_policy`, use "list" instead of "read".

# "write" includes "read". Without this rule, `get`, `list`, `set` and `release` end with exit code
# 4 and name it.
key_prefix "weightd/weights/" { policy = "write" }

# The history of each backend. Without this rule, writes go without a history entry and say so,
# `history` and `rollback` end with exit code 4.
key_prefix "weightd/history/" { policy = "write" }

# To stop changes: of all backends, and of one. Without these rules, `freeze` and `unfreeze` fail,
# and other writes go without the check and say so.
key "weightd/freeze" { policy = "write" }
key_prefix "weightd/freeze/" { policy = "write" }

# How many nodes there should be: `node expect`.
key "weightd/expect" { policy = "write" }

# To start and steer rollouts, and to approve their steps. Without these rules, `rollout start`,
# `rollout pause` and `rollout approve` end with exit code 4.
key_prefix "weightd/rollouts/spec/" { policy = "write" }
key_prefix "weightd/rollouts/request/" { policy = "write" }
key_prefix "weightd/rollouts/approval/" { policy = "write" }

# What the controller writes of rollouts, and who leads. Without these rules, `rollout status` ends
# with exit code 4.
key_prefix "weightd/rollouts/state/" { policy = "read" }
key_prefix "weightd/rollouts/evidence/" { policy = "read" }
key_prefix "weightd/rollouts/log/" { policy = "read" }
key "weightd/controller" { policy = "read" }

# Plans by name. Without this rule, `rollout start --plan NAME` finds only the presets.
key_prefix "weightd/plans/" { policy = "write" }

# What the nodes have. Without this rule, `--wait` cannot succeed, and `status` cannot show the
# fleet.
key_prefix "weightd/nodes/" { policy = "read" }

# Which nodes exist. "write" is for `node forget`; without this rule, a node that is down is not
# missed.
key_prefix "weightd/inventory/" { policy = "write" }

# To observe backends, and to read the numbers that the nodes then report. Without these rules, no
# numbers are shown.
key_prefix "weightd/observe/" { policy = "write" }
key_prefix "weightd/counters/" { policy = "read" }
