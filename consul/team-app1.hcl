# Rules for the token of a team that owns only the backend `app1`.
#
#   consul acl policy create -name weightd-team-app1 -rules @team-app1.hcl
#   consul acl token create -description "team of app1" -policy-name weightd-team-app1
#
# There are two rules for the weights, because `key_prefix "weightd/weights/app1"` would also allow `app10` and
# `app1-admin`. `weightctl list` shows the team only its own backend, because Consul hides the
# others. With `acl.enable_key_list_policy`, Consul rejects such a list instead. Then `list` ends
# with exit code 4, while `get app1` and `set app1` still work.

# The document. Without this rule, `get`, `set` and `release` end with exit code 4.
key "weightd/weights/app1" { policy = "write" }

# The leaves: one plain number for each server, which some teams use instead of a document. Without
# this rule, weightctl does not see them: `get` and `set` end with exit code 7, as for a missing
# backend. A team with a document needs this rule only if leaves exist and `release` has to replace
# them.
key_prefix "weightd/weights/app1/" { policy = "write" }

# The history of the backend. Without this rule, writes go without a history entry and say so,
# `history` and `rollback` end with exit code 4.
key "weightd/history/app1" { policy = "write" }

# To stop changes of the backend, and to see that an operator stopped all changes. Without these
# rules, writes go without the check and say so; `freeze app1` fails.
key "weightd/freeze/app1" { policy = "write" }
key "weightd/freeze" { policy = "read" }

# To start rollouts of the backend, to steer them and to take them back. Who may write the first key
# moves the traffic, as with the document. Without these rules, `rollout start app1` and `rollout
# pause app1` end with exit code 4.
key "weightd/rollouts/spec/app1" { policy = "write" }
key "weightd/rollouts/request/app1" { policy = "write" }

# What the controller writes of the rollout, who leads, and what was approved. To let the team
# approve its own steps, write "write" for the approval; approver.hcl is for another team. Without
# these rules, every `rollout` command but `rollout lint` ends with exit code 4, and `set` says that
# it does not know whether a rollout runs.
key "weightd/rollouts/state/app1" { policy = "read" }
key "weightd/rollouts/evidence/app1" { policy = "read" }
key "weightd/rollouts/log/app1" { policy = "read" }
key "weightd/rollouts/approval/app1" { policy = "read" }
key "weightd/controller" { policy = "read" }

# Plans by name. Without this rule, `rollout start --plan NAME` finds only the presets.
key_prefix "weightd/plans/" { policy = "read" }

# What the nodes have, and which nodes exist. Without these rules, `--wait` cannot succeed, and
# `status` cannot show the fleet. There is no rule for sessions: a token with `session_prefix ""`
# can destroy the session of every node.
key_prefix "weightd/nodes/" { policy = "read" }
key_prefix "weightd/inventory/" { policy = "read" }
key "weightd/expect" { policy = "read" }

# To observe the backend, and to read the numbers that the nodes then report. The second key is
# written by the first observer of all, so that the nodes notice the next one at once. Without these
# rules, no numbers are shown.
key_prefix "weightd/observe/app1/" { policy = "write" }
key "weightd/observe/_" { policy = "write" }
key_prefix "weightd/counters/" { policy = "read" }
