# Rules for the token of a controller of rollouts: rolloutd.
#
#   sed 's/NODE-OF-AGENT/ctl-1/' controller.hcl > controller-ctl-1.hcl
#   consul acl policy create -name weightd-controller-ctl-1 -rules @controller-ctl-1.hcl
#   consul acl token create -description "rolloutd on ctl-1" -policy-name weightd-controller-ctl-1
#
# NODE-OF-AGENT is the name of the Consul agent that rolloutd uses, as `consul members` shows it. This
# token may move the traffic of every backend: run rolloutd on machines of their own, away from the
# HAProxies. If you configure another root, replace `weightd/` with it. If Consul has
# `acl.enable_key_list_policy`, use "list" instead of "read"; "list" includes "read".

# The lock of the leader, and the session that holds it. Without these rules it never leads.
key "weightd/controller" { policy = "write" }
session "NODE-OF-AGENT" { policy = "write" }

# What people want. Without these rules it does not lead: it cannot know what it may do.
key_prefix "weightd/rollouts/spec/" { policy = "read" }
key_prefix "weightd/rollouts/request/" { policy = "read" }
key_prefix "weightd/rollouts/approval/" { policy = "read" }

# Where each rollout is. Without this rule no rollout begins.
key_prefix "weightd/rollouts/state/" { policy = "write" }

# What the judge knows and what happened, also for people. Without one of these rules neither is
# written: a new leader begins without evidence after 10 s, and `weightctl rollout` shows less.
key_prefix "weightd/rollouts/evidence/" { policy = "write" }
key_prefix "weightd/rollouts/log/" { policy = "write" }

# The documents, and their histories. Without the first rule nothing is moved; without the second
# one the history has no entry for what it moves.
key_prefix "weightd/weights/" { policy = "write" }
key_prefix "weightd/history/" { policy = "write" }

# Whether changes are stopped. "write" is for the first change of all, which creates the key: a
# missing key cannot be checked.
key "weightd/freeze" { policy = "write" }
key_prefix "weightd/freeze/" { policy = "write" }

# What the nodes have, which nodes exist, and what they count while the leader observes them.
# Without these rules it does not lead.
key_prefix "weightd/nodes/" { policy = "read" }
key_prefix "weightd/inventory/" { policy = "read" }
key_prefix "weightd/counters/" { policy = "read" }
key_prefix "weightd/observe/" { policy = "write" }
