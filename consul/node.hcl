# Rules for the token of a node: the token that weightd uses on each machine with a HAProxy.
#
#   consul acl policy create -name weightd-node -rules @node.hcl
#   consul acl token create -description "weightd on lb-1" -policy-name weightd-node
#
# Write the token to `token_file` in [consul], a file that only weightd can read. A node writes
# nothing to Consul. An attacker who controls one machine with a HAProxy can therefore not change
# the weights of another one.
#
# If you configure another root, replace `weightd/` with it. Keep the slash at the end of
# `weights/`: without it, the rule would allow every key that starts with `weightd/weights`.

# Without this rule, Consul answers as if the prefix were empty. The weights stay as they are,
# weightd logs that there is no key below the prefix or that the token cannot read any, and every
# backend is `orphaned`. After you restore the rule, it takes effect within 35 s, or at once after
# `systemctl reload weightd`.
key_prefix "weightd/weights/" { policy = "read" }

# If Consul has `acl.enable_key_list_policy`, use "list" instead of "read"; "list" includes "read".
