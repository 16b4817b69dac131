# What the token of a team needs that owns one backend, `app1`, and no other.
#
#   consul acl policy create -name weightd-team-app1 -rules @team-app1.hcl
#   consul acl token create -description "team of app1" -policy-name weightd-team-app1
#
# Two rules and not `key_prefix "weightd/weights/app1"`: that would open `app10` and `app1-admin` too. `weightctl list`
# shows the team its own backend; Consul leaves out the others. (Where it has `acl.enable_key_list_policy` it refuses to
# leave out anything: then `list` ends with exit code 4, and `get app1` and `set app1` work as they do here.)

# The document. Without this rule `get`, `set` and `release` end with exit code 4.
key "weightd/weights/app1" { policy = "write" }

# The leaves: a plain number for each server, which some teams have in place of a document. Without this rule weightctl
# does not see them: `get` and `set` end with exit code 7, since there seems to be no such backend. A team that
# has a document does not need it, until somebody writes leaves and `release` has to replace them.
key_prefix "weightd/weights/app1/" { policy = "write" }
