# What the token of an operator needs, who may shift every backend with weightctl.
#
#   consul acl policy create -name weightd-operator -rules @operator.hcl
#   consul acl token create -description alice -policy-name weightd-operator
#
# A token for each person: Consul's audit log knows tokens, and `by` in a document is only what somebody wrote there.
# Whoever may only look gets "read" in place of "write" ("list" where Consul has `acl.enable_key_list_policy`): then
# `get`, `list` and `--dry-run` work, and what would write ends with exit code 4.

# Writing includes reading. Without this rule `get`, `list`, `set` and `release` end with exit code 4, and name it.
key_prefix "weightd/weights/" { policy = "write" }
