# Rules for the token of `rolloutd page`: it reads what the page shows, and can write nothing. What a person
# sees of it is filtered by the person's own token, and every write is made with that one.
#
#   consul acl policy create -name weightd-page -rules @page.hcl
#   consul acl token create -description "rolloutd page" -policy-name weightd-page
#
# Without one of these rules the page shows what it may read, and says that its token may not read everything.

# The documents.
key_prefix "weightd/weights/" { policy = "read" }

# Who moved an application.
key_prefix "weightd/history/" { policy = "read" }

# Which changes are stopped: of one application, and of all.
key_prefix "weightd/freeze" { policy = "read" }

# What the nodes have, which nodes exist, and how many there should be.
key_prefix "weightd/nodes/" { policy = "read" }
key_prefix "weightd/inventory/" { policy = "read" }
key "weightd/expect" { policy = "read" }

# The rollouts, and who leads.
key_prefix "weightd/rollouts/spec/" { policy = "read" }
key_prefix "weightd/rollouts/state/" { policy = "read" }
key_prefix "weightd/rollouts/evidence/" { policy = "read" }
key_prefix "weightd/rollouts/log/" { policy = "read" }
key_prefix "weightd/rollouts/request/" { policy = "read" }
key "weightd/controller" { policy = "read" }
