# Rules for the token of an operator who can shift every backend with weightctl.
#
#   consul acl policy create -name weightd-operator -rules @operator.hcl
#   consul acl token create -description alice -policy-name weightd-operator
#
# Create one token for each person: the audit log of Consul contains the token, while `by` in a
# document is free text. For a read-only operator, use "read" instead of "write" ("list" if Consul
# has `acl.enable_key_list_policy`). Then `get`, `list` and `--dry-run` work, and every write ends
# with exit code 4.

# "write" includes "read". Without this rule, `get`, `list`, `set` and `release` end with exit code
# 4 and name it.
key_prefix "weightd/weights/" { policy = "write" }
