# Rules for the token of a person who approves the steps of rollouts of the backend `app1`, and
# changes nothing else.
#
#   consul acl policy create -name weightd-approver-app1 -rules @approver-app1.hcl
#   consul acl token create -description "approver of app1" -policy-name weightd-approver-app1
#
# A plan asks for an approval with `approve = true` in a step. Give a person this policy and that of
# the team, or only this one.

# The approval. Without this rule, `rollout approve app1` ends with exit code 4.
key "weightd/rollouts/approval/app1" { policy = "write" }

# The rollout. Without these rules, `rollout approve app1` and `rollout status app1` end with exit
# code 4.
key "weightd/rollouts/spec/app1" { policy = "read" }
key "weightd/rollouts/state/app1" { policy = "read" }
key "weightd/rollouts/evidence/app1" { policy = "read" }
key "weightd/rollouts/request/app1" { policy = "read" }
key "weightd/rollouts/log/app1" { policy = "read" }
key "weightd/controller" { policy = "read" }
