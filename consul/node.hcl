# Rules for the token of a node: the token that weightd uses on each machine with a HAProxy.
#
#   sed 's/NODE-OF-AGENT/lb-1/; s/NODE/lb-1/' node.hcl > node-lb-1.hcl
#   consul acl policy create -name weightd-node-lb-1 -rules @node-lb-1.hcl
#   consul acl token create -description "weightd on lb-1" -policy-name weightd-node-lb-1
#
# NODE is `node` in weightd.toml, by default the host name. NODE-OF-AGENT is the name of the Consul
# agent that weightd uses, as `consul members` shows it. Create one policy for each node: a node
# writes nothing but its own three keys. An attacker who controls one machine with a HAProxy can
# therefore not change the weights of another one, nor report for it.
#
# Write the token to `token_file` in [consul], a file that only weightd can read. If you configure
# another root, replace `weightd/` with it. Keep the slash at the end of `weights/`: without it, the
# rule would allow every key that starts with `weightd/weights`.

# Without this rule, Consul answers as if the prefix were empty. The weights stay as they are,
# weightd logs that there is no key below the prefix or that the token cannot read any, and every
# backend is `orphaned`. After you restore the rule, it takes effect within 35 s, or at once after
# `systemctl reload weightd`.
key_prefix "weightd/weights/" { policy = "read" }

# The report of this node. Without this rule or the one for the session, weightd enforces the
# weights, warns once, and `/v1/status` shows `denied` in `fleet`. The fleet sees the node as
# missing. After you restore the rule, it takes effect within 15 s.
key "weightd/nodes/NODE" { policy = "write" }

# That this node exists. Without this rule the fleet sees the node while it runs, but does not miss
# it after that. weightd warns once, and `/v1/status` shows the rule in `fleet`.
key "weightd/inventory/NODE" { policy = "write" }

# Which backends somebody observes, and the report on them, such as for the preview of a change.
# Without the first rule, this node reports on none; without the second one, the report is not
# written. weightd warns once, and `/v1/status` shows `denied` in `counters`, with the rule. After
# you restore the rule, it takes effect within 60 s.
key_prefix "weightd/observe/" { policy = "read" }
key "weightd/counters/NODE" { policy = "write" }

# The session that holds the reports. Do not use `session_prefix ""`: a token with it can destroy
# the sessions of all other nodes.
session "NODE-OF-AGENT" { policy = "write" }

# If Consul has `acl.enable_key_list_policy`, use "list" instead of "read"; "list" includes "read".
