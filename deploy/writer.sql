-- One round of the demo's writer.
insert into public.todos (org_id, owner_id, title) values (:'org', :'owner', 'todo number ' || :'round');
update public.todos set done = true where id = (select max(id) - 1 from public.todos) and title like 'todo number %';
delete from public.todos where id < (select max(id) - 20 from public.todos) and title like 'todo number %';
insert into public.messages (room_id, body) values ('lobby', 'message number ' || :'round');
delete from public.messages where id < (select max(id) - 20 from public.messages) and body like 'message number %';
