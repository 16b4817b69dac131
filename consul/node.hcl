# What the token of a node needs: the one that weightd has, on each machine with a HAProxy.
#
#   consul acl policy create -name weightd-node -rules @node.hcl
#   consul acl token create -description "weightd on lb-1" -policy-name weightd-node
#
# It goes to `token_file` in [consul], which nobody but weightd can read. A node writes nothing to Consul, so that who
# takes over a machine with a HAProxy can change no weight on any other.
#
# Where another root is configured, put that in place of `weightd/`. The slash at the end of `weights/` counts: without
# it the rule would open every key that begins with `weightd/weights`.

# Without this rule Consul answers as if the prefix were empty: the weights stay as they are, weightd logs that there is
# no key below the prefix or that the token may not read any, and every backend is `orphaned`. Given back, the rule
# counts within 35 s, or at once after `systemctl reload weightd`.
key_prefix "weightd/weights/" { policy = "read" }

# Where Consul has `acl.enable_key_list_policy`, it is "list" in place of "read", which includes that.
